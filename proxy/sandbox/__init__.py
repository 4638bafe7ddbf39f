"""A stand-in Inworld API in a process of its own: for demos, tests and work without a network.

What belongs here: everything the real service is publicly known to answer, in the shapes its clients parse, and the
knobs (latency, failures, limits) that make it answer badly on purpose. What does not: anything of the proxy; this
package imports nothing from the rest of the product, so that the two cannot share a mistake.

Statements marked ``Invented:`` are not documented by the vendor; they are what a sandbox needs, or a guess.
"""
