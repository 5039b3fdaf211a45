"""A package, so that its fixtures end with it: the tests beside it need the whole machine."""
