"""The public contract between agent, controller and auditor: documents, signatures, frames.

Pure: bytes in, values out. No process, socket, file, clock or database.
"""
