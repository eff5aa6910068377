"""Numbered procedures for a bench with real devices, and their dry run against emulators."""
