"""Pages that do whatever a page may do, and a checker that knows the truth.

A *page* (`page`) is one browser: one connection at a time, many channels. It
subscribes, leaves, asks twice, reads by fits, vanishes and comes back with the
cursors that the shipped client would have. All it asks and hears is its
*history*. The *publishers* number their events; the *chronicle* copies what the
journal had, also what retention or a new installation takes away. The *checker*
holds each history against both.
"""
