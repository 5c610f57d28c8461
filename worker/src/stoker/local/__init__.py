"""`stoker up`: the operator's work on one machine, with processes for pods. Used by the command line and the demo."""
