"""The rules of points (RULES 5), pure: no I/O, no clock, no randomness, no wire format.

* `definitions`: what an administrator configures: systems, triggers, levels.
* `facts`: what a user's points are folded from.
* `fold`: what one more fact does to the points that all before it made. Begin here.
* `counting`, `streaks`: how often a trigger is due; `limits`: what limits leave of that.
* `refold`: what differs when a fact is taken out or changed.
* `ledger`: the rows, and what follows from them: balance, lifetime, level, reach time.
* `amendments`, `decisions`: what an entry says of earlier facts, and what it does itself.
* `state`, `account`: what is kept of a user.
"""
