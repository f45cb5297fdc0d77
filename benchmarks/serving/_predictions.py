"""The words of the page that no run changes: how to do it again, what was expected, what the figures don't say."""

REPRODUCE = """```bash
python benchmarks/serving/setup.py                                    # the peers, each in an environment of its own
python benchmarks/serving/run.py                                      # every server that is installed; writes this page
python benchmarks/serving/run.py --peers ferryman,raw,fastapi,mosec   # a few minutes
```

It needs two cores, Linux, `h2load` (Debian's nghttp2-client) and `taskset`. `--resume` goes on where a run was stopped;
`--seconds` and `--rounds` make it longer; every figure of every round lies beside this page as JSON. An answer is
compared with ONNX Runtime's own before a load and after it: a server that answers wrong is not timed."""

PREDICTED = """Written down before the first run, from an earlier study of the peers on a machine of this kind:

| load | bare limit | peers then, CPU a request | Ferryman must | and strives for |
|---|---|---|---|---|
| T | 14.7 us | floor 46 us, mosec 75, Triton 135, FastAPI 586, MLServer 990 to 1,860, KServe 1,390, LitServe 2,330, \
BentoML 2,860, Ray Serve 10,850 | 70 us | 15 us |
| Tgrpc | 14.7 us | grpc.aio 560 us, KServe 800, MLServer 2,600 | 450 us | 140 us |
| M | 11.7 ms | Triton 87 to 89 % of the limit, FastAPI 89, LitServe 62, BentoML 45, KServe 8 | 95 % | 100 % |
| Mjson | 11.7 ms | Triton 32 ms, KServe 55, LitServe 79, Ray Serve 204 | 25 ms | 18 ms |
| D | 124 ms | all 87 to 105 % of the limit | 102 % | 115 % |
| start, three models | | floor 0.8 s, FastAPI 2.4, Triton 3.1, BentoML 7.4, LitServe 9.3, MLServer 10.8, \
Ray Serve 46 | 1.2 s | 0.8 s |
| p99 of M at 70 % | | | 4 x the bare call | 2.5 x |
| PSS, three models | | floor 196 MB, FastAPI 254, KServe 296, Triton 334, LitServe 593 | 240 MB | 200 MB |

The p99 asked for at 70 % lies below what theory gives any one core that takes equal requests in turn: 7.5 times the
time of one, however good the server is. Only batches that cost less than their parts, a second core, or a rate that is
less than 70 % of what the engine itself can do allow it."""

CAVEATS = """- One machine, one core each, loopback: no network, no other tenant's cache, no second socket.
- Random weights in the usual layouts: right for speed, meaningless as answers. D's threshold is set so that about 150
  places of 8,400 pass it, as in a usual street picture.
- One body again and again: what depends on the content (JPEG sizes, numbers of boxes) does not vary.
- Closed loops but for the random arrivals: a slow server is asked less, which flatters its p99.
- Each answer's status is looked at, its content only before and after each load.
- D's p99 is in effect the slowest of the few dozen answers of a round.
- Short loads: memory that grows for hours, and what happens at reloads, is not seen here.
- The peers are set up as their documentation shows, by people who know them less well than their authors do. Triton's
  own ONNX Runtime backend is in no wheel; it would be faster on T than its Python backend, which is what is shown.
- Over HTTP T goes as each server's own JSON; bodies of the Open Inference Protocol are about 70 bytes longer."""
