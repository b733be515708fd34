"""The virtual laboratory: QEMU guests with disks of every kind, fault devices and simulated drives (`make lab`)."""
