"""Who may come in: certificates, tokens, and the groups of methods that they are granted.

``gate`` looks at each call before its message is read; ``policy`` says who it is; the rest is read
from files, again and again (``reloading``), because certificates and tokens are changed while the
server runs.
"""
