"""Modbus: spans of registers in, readings out; writes ahead of reads."""
