"""The services as they are, with something changed around them; a stack starts them by its setting `package`."""
