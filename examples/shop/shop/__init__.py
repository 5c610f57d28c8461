"""A small shop: the example application that the demonstration and the tests run."""
