"""What tests of experiments, faults and targets need as much as chaoskit's own do.

`conformance` holds the properties that every fault must have, as functions for any test runner;
`proxy` puts a link with faults before a service, for the tests of any program; `crash` runs an
experiment and dies at an exact point; `fakes` has a probe that follows a script.
"""
