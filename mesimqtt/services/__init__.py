"""Optional features behind messaging: each a package that uses messaging and is used by the composition root alone."""
