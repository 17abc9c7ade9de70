"""Drop-in functions for code that was written for other packages."""
