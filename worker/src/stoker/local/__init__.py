"""One machine: the same manifest with processes for pods. Behind `stoker up` and the demo."""
