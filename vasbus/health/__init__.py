"""`vasbus health`: one round trip with a deadline, cheap enough for every few seconds in every container.

It speaks the wire format of docs/protocol.md with pyzmq and msgpack alone. To import the models of all messages takes
several times the CPU time of everything that is done here; tests hold what is said here against those models.
"""
