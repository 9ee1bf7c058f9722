"""Floor 6: YAML recipes and the command line that runs them; the only code that sees every stage."""
