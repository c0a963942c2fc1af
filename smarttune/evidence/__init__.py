"""Rules put to the test: experiments on real data, and what they show.

`datasets` knows data sets by name, `surrogate` 17 tables behind a model of real training runs.
`experiments` makes the trainings that a rule's check asks for, `verdicts` an effect, an interval
and a verdict of them, `packs` a pack of local rules.
"""
