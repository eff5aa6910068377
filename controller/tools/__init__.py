"""Tools for a technician, in a process of their own: through the service while it runs, straight when none does."""
