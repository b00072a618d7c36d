"""The configs that ship with the package, one experiment each."""
