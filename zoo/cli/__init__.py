"""The command line: one file a verb. Heavy imports happen inside a verb's function, never at import."""
