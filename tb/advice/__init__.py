"""Which storage suits a set of videos: recipes are tried on a sample, measured and compared.

Here: the sample, the candidates, the measurements, the choice, the files of `tb data advise`.
Not here: storing (`shards`), rendering (`loaders`). What is measured here is their own work.
"""
