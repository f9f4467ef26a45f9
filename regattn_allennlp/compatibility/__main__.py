"""`python -m regattn_allennlp.compatibility` prints what is mended, as in docs/compatibility.md."""

from regattn_allennlp.compatibility.mend import table

if __name__ == "__main__":
    print(table())
