"""Stand-ins: graphs with the architecture of a published model, and seeded weights.

The weights of DINOv2 and MobileCLIP are fetched over https and can't be had everywhere, and
MobileCLIP's may be used for research only. What a benchmark needs of them is the work that they
make. These graphs do the same work and their results mean nothing, which every name says: all end
in ``_stand_in``, and a catalogue entry without that ending can't be one.

The graphs are built op by op instead of exported, as the usual exporters need gigabytes of
packages. The files against the published ones::

    graph                        parameters         bytes       published
    DINOv2 ViT-S/14              21,628,812    86,544,754      86,644,121  -0.11 %
    MobileCLIP-S0 image tower    11,353,538    45,440,542      45,543,630  -0.23 %
    MobileCLIP-S0 text tower     42,434,052   169,747,962     169,807,789  -0.04 %

The difference is how many small ops an exporter writes. Weights are scaled so that activations
neither vanish nor grow, since NaN and denormal numbers take another time to compute. One row with
one thread took 100, 44 and 24 ms on an x86-64 processor with AVX-512.
"""
