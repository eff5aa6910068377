"""The whole engine in virtual time, against the bench's plant and faults drawn from a seed. See docs/simulation.md."""
