"""The nouns and the rules of Tidegate.

Everything here is pure: no input or output, no clock, no async, no framework. A rule that decides something about
a cluster lives in this folder and nowhere else; what *does* things (control, backends, store) asks it.
"""
