"""Which storage suits a set of videos: recipes are tried on a sample, measured and compared.

Here: the sample, the candidates, the measurements, the choice, the files of `tb data advise`.
Not here: storing (`shards`) and rendering (`loaders`). This package calls and measures both.
"""
