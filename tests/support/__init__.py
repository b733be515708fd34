"""Builders that several tests share. Values are realistic, keys are made fresh."""
