"""Call hundreds of model nodes at once from a Trio program, and have every answer by a deadline."""
