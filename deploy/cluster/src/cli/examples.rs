//! What stands below the help of commands: lines to paste.

/// Of `cluster up`.
pub(super) const UP: &str = "Examples:
  cluster up                              # all parts on this machine, and the bundled pipeline
  cluster up rag.toml --ingress 9000      # a pipeline of your own, requests on port 9000
  cluster up --join 127.0.0.1:7400        # a second node on this machine
  cluster up --join 10.0.0.1:7400 --token-file join.token";
/// Of `cluster deploy`.
pub(super) const DEPLOY: &str = "Examples:
  cluster deploy rag.toml                # the next revision of the pipeline in the file
  cluster deploy rag.toml --dry-run      # what would start, stop and change
  cluster deploy rag.toml --canary 10%   # a tenth of the requests, until it is promoted";
/// Of `cluster top`.
pub(super) const TOP: &str = "Examples:
  cluster top                      # ? shows the keys, q leaves
  cluster top --json | head -n 3   # the next three seconds, a JSON object each";
/// Of `cluster rollout`.
pub(super) const ROLLOUT: &str = "Examples:
  cluster rollout status rag --watch
  cluster rollout set rag --percent 60%
  cluster rollout undo rag                 # back to the revision before";
/// Of `cluster usage`.
pub(super) const USAGE: &str = "Examples:
  cluster usage                                        # the last day, by key and model
  cluster usage --by hour,key --since 7d --csv > usage.csv";
/// Of `cluster simulate`.
pub(super) const SIMULATE: &str = "Examples:
  cluster simulate autoscaling --trace requests.csv --service-time '0.05 + 0.02 * generated' \\
    --start-time 30s --autoscaling '{ min_replicas = 1, max_replicas = 20 }'
  cluster simulate placement --nodes nodes.csv --tasks tasks.csv
  cluster simulate --from bundle.tar.gz      # what was decided, decided again
  cluster simulate --from bundle.tar.gz --deployment rag/embedder --max 4";
/// Of `cluster debug`.
pub(super) const DEBUG: &str = "Examples:
  cluster debug bundle                          # millstream-debug-TIME.tar.gz in this folder
  cluster debug bundle --no-files -o - > bundle.tar.gz
  cluster simulate --from bundle.tar.gz         # decide again, anywhere, without the cluster";
/// Of `cluster bench`.
pub(super) const BENCH: &str = "Examples:
  cluster bench http://127.0.0.1:8000/rag --body question.json --rate 100 --fail
  cluster bench http://127.0.0.1:8000/rag --body bodies.jsonl --concurrency 16 --duration 1m";
/// Of `cluster replay`.
pub(super) const REPLAY: &str = "Examples:
  cluster deploy rag.toml --shadow     # revision 4 beside the one that serves
  cluster replay --to rag@4            # the captures of `rag` in the data directory
  cluster replay yesterday.jsonl --to rag@4 --speed 1 --tolerance 1e-4
It exits with 1 when an answer is different or a request failed.";

/// Of `cluster completions`: where its script goes.
pub(super) const COMPLETIONS: &str = "Where it goes:
  bash  cluster completions bash > ~/.local/share/bash-completion/completions/cluster
  zsh   cluster completions zsh > ~/.zfunc/_cluster
        with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  fish  cluster completions fish > ~/.config/fish/completions/cluster.fish";
