// The JSON of the head's REST API: made from docs/openapi.json by `npm run types`, not to be edited.

/** What can go wrong at an ingress that other machines reach, and was accepted. */
export type AcceptedRisk = "clear_text" | "anonymous";

/** Bounds on a deployment's replicas; one that is absent stays as it is. */
export type BoundsBody = {
  /** Most. */
  max_replicas?: number | null;
  /** Fewest. */
  min_replicas?: number | null;
};

/** The bounds in force. */
export type BoundsView = {
  /** False when they were so before. */
  changed: boolean;
  /** Most. */
  max_replicas: number;
  /** Fewest. */
  min_replicas: number;
};

/** Everything that the head knows, as desired and as observed. */
export type ClusterStatus = {
  /** Its term. */
  epoch: number;
  /** Ingresses that are connected, by name. */
  ingresses: IngressStatus[];
  /** Name of the head that commands. */
  leader: string;
  /** Nodes that are or were connected, by name. */
  nodes: NodeStatus[];
  /** Pipelines that people asked for, by name. */
  pipelines: PipelineStatus[];
  /** Number of the newest route table; an ingress answers by it once it has confirmed it. */
  routes_version: number;
};

/**
 * The cluster in short. Deployments have counts of their replicas and no list of them, devices one holder for each
 * deployment.
 */
export type ClusterSummary = {
  /** When it was so, in milliseconds since the Unix epoch. */
  at_ms: number;
  /** Its term. */
  epoch: number;
  /** The part of them that failed by a fault of the server, 0 to 1. */
  failed_ratio: number;
  /** Whether all is well. */
  health: Health;
  /** Ingresses that are connected, by name. */
  ingresses: IngressStatus[];
  /** Name of the head that commands. */
  leader: string;
  /** Nodes that are or were connected, by name. */
  nodes: NodeStatus[];
  /** What half of those with an answer took at most, in milliseconds; at most a quarter too high. Absent without any. */
  p50_ms?: number | null;
  /** The same of 95%. */
  p95_ms?: number | null;
  /** The same of 99%. */
  p99_ms?: number | null;
  /** Pipelines that people asked for, by name. */
  pipelines: PipelineStatus[];
  /** Requests a second. */
  requests_per_second: number;
};

/** What `cluster defrag --dry-run` tells. */
export type DefragPlan = {
  /** The devices that become free. */
  freed: DeviceRef[];
  /** The moves, to be made in this order. */
  moves: ReplicaMove[];
};

/** Files to deploy. */
export type DeployBody = {
  /** The part of the requests that the new revisions get until they are promoted, 0.1 to 100. */
  canary_percent?: number | null;
  /** In an order in which each may call the deployments of those before it. */
  files: DeployFile[];
  /** The part of the requests that they get copies of until they are promoted, 0.1 to 100. */
  shadow_percent?: number | null;
};

/** A pipeline's file. */
export type DeployFile = {
  /** Its name, for messages. */
  file_name: string;
  /** Its text. */
  source: string;
  /** The folder on the nodes in which relative `file:` models are. */
  source_dir?: string;
};

/** What deploying a text would do. */
export type DeployPlan = {
  /** What its callers lose by it (a route, fields of the request or the response), a sentence each. */
  breaking: string[];
  /** What of its requests would be captured, in words; absent when nothing is. */
  captures?: string | null;
  /** Whether anything would change. */
  changed: boolean;
  /** Its deployments, by name. */
  deployments: DeploymentPlan[];
  /** Whether there is more than was looked at: the cluster is too large for the whole plan. */
  is_cut_off: boolean;
  /** The pipeline. */
  pipeline: string;
  /** The revision that it would become, or is. */
  revision: number;
};

/** What a deploy came to. */
export type DeployedView = {
  /** False when this very text was deployed already. */
  changed: boolean;
  /** The pipeline. */
  name: string;
  /** The revision that is wanted. */
  revision: number;
};

/** What becomes of a deployment. */
export type DeploymentChange = "new" | "replaced" | "in_place" | "unchanged" | "removed";

/** What becomes of one deployment. */
export type DeploymentPlan = {
  /** What becomes of it. */
  change: DeploymentChange;
  /** `pipeline/deployment`. */
  full_name: string;
  /** Why replicas fit nowhere, by node; empty when all have a place. */
  pending: string[];
  /** Replicas that start, and where. */
  starts: PlannedReplica[];
  /** Replicas that leave. */
  stops: PlannedReplica[];
  /** Replicas that go on with new settings. */
  updates: PlannedReplica[];
};

/** A deployment's ready replicas. */
export type DeploymentRouteView = {
  /** Its name in the pipeline. */
  deployment: string;
  /** Ids of its replicas. */
  replicas: string[];
};

/** A deployment of a pipeline. */
export type DeploymentStatus = {
  /** Whether people have set these bounds in place of the file's. */
  bounds_by_hand: boolean;
  /** Replicas that the requests of this moment ask for, within the bounds; the target follows with its delays. */
  desired_replicas: number;
  /** `pipeline/deployment`. */
  full_name: string;
  /** Most replicas. */
  max_replicas: number;
  /** Fewest replicas. */
  min_replicas: number;
  /** The model, as the file names it; absent for engines without one. */
  model?: string | null;
  /** Its name in the pipeline. */
  name: string;
  /** Requests at its replicas. */
  ongoing: number;
  /** Why wanted replicas have no place, a reason per node; empty when all have one. */
  pending: string[];
  /** Requests waiting at ingresses. */
  queued: number;
  /** Replicas ready, of the newest revision. */
  ready_replicas: number;
  /** How many they are, by state. */
  replica_counts: ReplicaCounts;
  /** Its replicas of every revision. Empty in a summary. */
  replicas: ReplicaStatus[];
  /** Ongoing requests per replica that the autoscaler aims at. */
  target_ongoing_requests: number;
  /** Replicas wanted, as decided. */
  target_replicas: number;
};

/** A device of a node. */
export type DeviceRef = {
  /** Index of the device there. */
  index: number;
  /** Name of the node. */
  node: string;
};

/** That something is done. */
export type Done = {
  /** What it was done to. */
  done: string;
};

/** A decision, with the words for it. */
export type EventView = (
  | {
      kind: "deployed";
      /** Its number. */
      revision: number;
    }
  | {
      kind: "deleted";
    }
  | {
      /** What became of it. */
      change: KeyChange;
      kind: "key";
      /** Its name. */
      name: string;
      /** What it was given then. */
      set: KeyRequest;
    }
  | {
      /** What became of it. */
      change: KeyChange;
      kind: "token";
      /** Its name. */
      name: string;
    }
  | {
      /** Replicas wanted before. */
      from: number;
      /** What it fired upon. */
      inputs: ScaleInputs;
      kind: "scaled";
      /** The rule that fired, in words. */
      rule: string;
      /** Replicas wanted now. */
      to: number;
    }
  | {
      /** Shares of devices: index and thousandths. */
      gpus: [number, number][];
      kind: "placed";
      /** Name of its node. */
      node: string;
      /** The replica. */
      replica: string;
      /** The revision it is started for. */
      revision: number;
    }
  | {
      kind: "pending";
      /** What is missing, by node. */
      reasons: string[];
    }
  | {
      kind: "no_longer_pending";
    }
  | {
      kind: "no_longer_wanted";
    }
  | {
      kind: "undone";
      /** The revision that is wanted now. */
      revision: number;
      /** The one whose text it has. */
      text_of: number;
    }
  | {
      kind: "retired";
      /** Name of its node. */
      node: string;
      /** Why. */
      reason: string;
      /** The replica. */
      replica: string;
    }
  | {
      /** What became of it. */
      change: NodeChange;
      kind: "node";
      /** Its name. */
      node: string;
    }
  | {
      /** Why. */
      error: string;
      kind: "replica_failed";
      /** Name of its node. */
      node: string;
      /** The replica. */
      replica: string;
    }
  | {
      kind: "evicted";
      /** Name of the node. */
      node: string;
      /** How many replicas it had. */
      replicas: number;
    }
  | {
      /** The revision that it takes over from. */
      baseline: number;
      kind: "rollout";
      /** The revision. */
      revision: number;
      /** What happens. */
      step: RolloutStep;
    }
  | {
      kind: "part";
      /** Percent of the requests. */
      percent: number;
      /** The revision. */
      revision: number;
    }
  | {
      kind: "rolled_back";
      /** Why. */
      reason: string;
      /** The revision. */
      revision: number;
      /** The one that serves instead. */
      to: number;
    }
  | {
      kind: "aborted";
      /** The revision. */
      revision: number;
      /** The one that serves instead. */
      to: number;
    }
  | {
      kind: "promoted";
      /** The revision. */
      revision: number;
    }
  | {
      kind: "shed";
      /** In how long a time. */
      over_ms: number;
      /** How many. */
      requests: number;
    }
  | {
      kind: "alarm";
      /** Whether it is so. */
      raised: boolean;
    }
) & {
  /** Milliseconds since the Unix epoch. */
  at_ms: number;
  /** The deployment in the pipeline; absent when it is about all of it. */
  deployment?: string | null;
  /** What it was made of, where that is more than the sentence says. */
  inputs_text?: string | null;
  /** The pipeline that it is about; absent when it is about the whole cluster. */
  pipeline?: string | null;
  /** Grows with each event. */
  sequence: number;
  /** Whom it is about: `rag/embedder`, `rag` or `cluster`. */
  subject: string;
  /** It in a sentence. */
  text: string;
};

/** Decisions, the oldest first. */
export type Events = {
  /** The newest of those that were asked for. */
  events: EventView[];
};

/** A replica's part of a device. */
export type GpuHolder = {
  /** `pipeline/deployment`; empty for a deployment that is gone. */
  deployment: string;
  /** Who; the first one, where several of a deployment are shown together. */
  replica: ReplicaId;
  /** How many replicas hold it together. */
  replicas: number;
  /** Part of the device, 0 to 1. */
  share: number;
};

/** One device of a node. */
export type GpuStatus = {
  /** Part of the device that is booked, 0 to 1. */
  booked_share: number;
  /** Part of the device that is not booked, 0 to 1. */
  free_share: number;
  /** Who holds which part. */
  holders: GpuHolder[];
  /** Index on its node. */
  index: number;
  /** Device memory. */
  memory_bytes: number;
  /** Model name as the driver gives it. */
  model: string;
};

/** The DAG of a pipeline. */
export type Graph = {
  /** Whose. */
  pipeline: string;
  /** The stages that the response is made of. */
  response_after: string[];
  /** Of which revision. */
  revision: number;
  /** Its stages, in the file's order. */
  stages: GraphStage[];
};

/** A stage of a pipeline. */
export type GraphStage = {
  /** The stages that it waits for. */
  after: string[];
  /** The deployment that it calls: `pipeline/deployment`. */
  deployment?: string | null;
  /** Whether it runs once for each element of a list. */
  for_each: boolean;
  /** Whether it calls a deployment or computes at the ingress. */
  kind: GraphStageKind;
  /** Its name. */
  name: string;
  /** What becomes of a failure that does not fail the request: `skip`, or `use:STAGE`. */
  on_error?: string | null;
  /** What it computes. */
  operator?: string | null;
  /** Whether it runs only under a condition. */
  when: boolean;
};

/** How a stage works. */
export type GraphStageKind = "call" | "operator";

/** One of the heads of a cluster. */
export type HeadStatus = {
  /** HOST:PORT for workers, ingresses and the command. */
  control: string;
  /** HOST:PORT of its dashboard. */
  dashboard: string;
  /** Whether it leads. */
  leads: boolean;
  /** Name of its node. */
  name: string;
};

/** Whether all is well, in one line. */
export type Health = {
  /** What it is, for people. */
  sentence: string;
  /** The worst there is. */
  state: HealthState;
};

/** How well a cluster is. */
export type HealthState = "ok" | "degraded" | "failing";

/** A process that takes HTTP requests. */
export type IngressStatus = {
  /** What its operator accepted by flags, where other machines can reach it. */
  accepted_risks: AcceptedRisk[];
  /** HOST:PORT it listens on. */
  address: string;
  /** Name of its node. */
  name: string;
  /** Number of the route table that it has confirmed. Each term of a head counts its tables from 1; 0: none yet. */
  routes_version: number;
  /** What is spoken there. */
  scheme: Scheme;
};

/** A head that leads, from inside. */
export type Inspection = {
  /** Whether half of the nodes look dead at once; until that is over it replaces none. */
  alarm: boolean;
  /** When it looked, in milliseconds since the Unix epoch by its own clock. */
  at_ms: number;
  /** Id of the cluster. */
  cluster: string;
  /** Name of the head. */
  leader: string;
  /** Which replicas the requests of each pipeline go to, by name. */
  routes: RouteView[];
  /** Whether it still waits for the nodes that the head before knew; until then it places nothing. */
  settling: boolean;
  /** When its process started: what it remembers is younger. */
  started_at_ms: number;
  /** Version of its program. */
  version: string;
  /** Its nodes with the versions of their workers, by name. */
  workers: WorkerVersion[];
};

/** A key to make. Whoever asks makes the secret; the head never sees it. */
export type KeyBody = {
  /** Its name. */
  name: string;
  /** Its limits. */
  settings?: KeyRequest;
  /** SHA-256 of the secret, in hexadecimal. */
  sha256: string;
};

/** What became of an API key. */
export type KeyChange = "created" | "changed" | "deleted";

/** What is asked for a key; what is left out stays as it is. */
export type KeyRequest = {
  /** Requests that may come at once; 0 lifts it. */
  burst?: number | null;
  /** Requests under way at a time; 0 lifts the limit. */
  concurrency?: number | null;
  /**
   * What it may call: names of pipelines, full names of deployments, and what they begin with (`rag/*`); an empty list lifts the
   * limit.
   */
  models?: string[] | null;
  /** Name of the highest priority that its requests may have. */
  priority?: string | null;
  /** Requests a second; 0 lifts the limit. */
  rate_per_s?: number | null;
  /** Tokens a day; 0 lifts the limit. */
  tokens_per_day?: number | null;
  /** Tokens a minute, those of prompts and those of answers together; 0 lifts the limit. */
  tokens_per_minute?: number | null;
  /** Its share beside others where requests wait. */
  weight?: number | null;
};

/** An API key, without its secret. */
export type KeyStatus = {
  /** Requests that may come at once; absent without a rate. */
  burst?: number | null;
  /** Requests under way at a time; absent: no limit. */
  concurrency?: number | null;
  /** Milliseconds since the Unix epoch. */
  created_at_ms: number;
  /** What it may call: names of pipelines, full names of deployments, and what they begin with (`rag/*`); empty: everything. */
  models: string[];
  /** Its name. */
  name: string;
  /** The highest priority that its requests may have. */
  priority: Priority;
  /** Requests a second; absent: no limit. */
  rate_per_s?: number | null;
  /** Its number, which no other key ever has. */
  tenant: number;
  /** Tokens a day; absent: no limit. */
  tokens_per_day: number | null;
  /** Tokens a minute, those of prompts and those of answers together; absent: no limit. */
  tokens_per_minute: number | null;
  /** Its share beside others where requests wait. */
  weight: number;
};

/** Who asks. */
export type Me = {
  /** Id of the cluster. */
  cluster: string;
  /** What the token allows. */
  role: Role;
  /** Version of the head. */
  version: string;
};

/** The next step of a rollout. */
export type NextStepStatus = {
  /** Milliseconds until then. */
  in_ms: number;
  /** Part of the requests that it gives, 0 to 1. */
  traffic_ratio: number;
};

/** What became of a node. */
export type NodeChange =
  "joined" | "returned" | "draining" | "left" | "unreachable" | "cordoned" | "uncordoned" | "drain_begun" | "drained";

/** A machine running a worker; made once and kept in its data directory. */
export type NodeId = string;

/** What a node may be given. */
export type NodeState = "ready" | "cordoned" | "draining" | "left" | "unreachable";

/** A machine that runs a worker. */
export type NodeStatus = {
  /** HOST:PORT for replica traffic. */
  address: string;
  /** Thousandths of cores it has. */
  cpu_milli: number;
  /** Thousandths of cores that are not booked. */
  free_cpu_milli: number;
  /** Memory that is not booked. */
  free_memory_bytes: number;
  /** Its devices. */
  gpus: GpuStatus[];
  /** Id kept in its data directory. */
  id: NodeId;
  /** Labels given by `--labels`. */
  labels: Record<string, string>;
  /** Milliseconds since it last said that it lives. */
  last_seen_ms_ago: number;
  /** Memory it has. */
  memory_bytes: number;
  /** Name given by `--node-name`. */
  name: string;
  /** Process id of its worker. */
  pid: number;
  /** Whether it can be given work. */
  state: NodeState;
};

/** What became of a node. */
export type NodeView = {
  /** False when it was so before. */
  changed: boolean;
  /** Its name. */
  node: string;
};

/** One series. */
export type OneSeries = {
  /** The deployment: `pipeline/deployment`. */
  deployment?: string | null;
  /** What the numbers are, such as `ongoing`. */
  metric: string;
  /** The node. */
  node?: string | null;
  /** The pipeline that they are about, or a part of. */
  pipeline?: string | null;
  /** Means over each step, the oldest first; null where nothing was observed. */
  values: (number | null)[];
};

/** Requests and calls, by how they ended. */
export type OutcomeCounts = {
  /** Calls to replicas with an answer. */
  calls_answered: number;
  /** Calls to replicas that failed; a retry may have hidden them from the client. */
  calls_failed: number;
  /** Requests with an answer. */
  requests_answered: number;
  /** Requests that failed by a fault of the server. */
  requests_failed: number;
  /** The requests of the last minute. */
  traffic: TrafficStatus;
};

/** The part of the requests that a canary is to get. */
export type PartBody = {
  /** 0.1 to 100. */
  percent: number;
};

/** A pipeline in a list. */
export type PipelineEntry = {
  /** Milliseconds since the Unix epoch. */
  deployed_at_ms: number;
  /** Its file's name. */
  file_name: string;
  /** Its name. */
  name: string;
  /** The revision that is to serve. */
  revision: number;
};

/** A pipeline as it was deployed. */
export type PipelineSource = {
  /** Milliseconds since the Unix epoch. */
  deployed_at_ms: number;
  /** Its file's name. */
  file_name: string;
  /** Its name. */
  name: string;
  /** The revision that is to serve. */
  revision: number;
  /** The file's text. */
  source: string;
};

/** Whether a pipeline serves. */
export type PipelineState = "starting" | "ready" | "degraded" | "failed";

/** A pipeline. */
export type PipelineStatus = {
  /** When its revision was deployed, in milliseconds since the Unix epoch. */
  deployed_at_ms: number;
  /** Its deployments, by name. */
  deployments: DeploymentStatus[];
  /**
   * Why the revision that is to serve does not fit the models that have been loaded for it: what is wrong with its file, a
   * line each.
   */
  mismatch?: string | null;
  /** Its name. */
  name: string;
  /** The revision that was deployed last. */
  newest_revision: number;
  /** The revision that is to serve: the newest one that people asked for, unless it was rolled back. */
  revision: number;
  /** How a revision takes over, while one does. */
  rollout?: RolloutStatus | null;
  /** Its HTTP route, if it has one. */
  route?: string | null;
  /** The revision that requests run on, if any can. */
  serving_revision?: number | null;
  /** Whether it serves. */
  state: PipelineState;
  /** Its requests of the last minute. */
  traffic: TrafficStatus;
  /** Revisions that do not serve although they were deployed, and why; the newest first. */
  verdicts?: VerdictStatus[];
};

/** A replica and its place. */
export type PlannedReplica = {
  /** Shares of devices: index and thousandths. */
  gpus?: [number, number][];
  /** Name of its node. */
  node: string;
  /** Its id; one that starts may get another. */
  replica: string;
};

/**
 * Who goes first where requests wait: those of a higher one, and among equals whoever came first. In the order in which
 * they go.
 */
export type Priority = "high" | "normal" | "low";

/** An error (RFC 9457). */
export type Problem = {
  /** What is wrong, and the fix. */
  detail: string;
  /** Every fault by itself, where there are several. */
  errors?: ProblemFault[];
  /** The HTTP status. */
  status: number;
  /** The status in words. */
  title: string;
  /** `urn:millstream:problem:` and its kind. */
  type: string;
};

/** One fault of a request. */
export type ProblemFault = {
  /** Column in the line, in characters from 1. */
  column?: number | null;
  /** What to do. */
  help?: string | null;
  /** Line in the file, from 1. */
  line?: number | null;
  /** What is wrong. */
  message: string;
  /** The parameter or the file that it is in. */
  path: string;
};

/** Replicas by state. */
export type ReplicaCounts = {
  /** Finishing what they have. */
  draining: number;
  /** Gone or unable to start. */
  failed: number;
  /** Taking calls. */
  ready: number;
  /** Loading or warming up. */
  starting: number;
  /** Gone, as asked. */
  stopped: number;
};

/** One running copy of a deployment, such as `rag-embedder-5f3a91`. Never used twice. */
export type ReplicaId = string;

/** A replica's way from one device to another. */
export type ReplicaMove = {
  /** Full name of its deployment. */
  deployment: string;
  /** Where it is. */
  from: DeviceRef;
  /** The replica. */
  replica: ReplicaId;
  /** The part of a device that it holds, 0 to 1. */
  share: number;
  /** Where it would go. */
  to: DeviceRef;
};

/** Some of the replicas that were asked for. */
export type ReplicaPage = {
  /** These. */
  replicas: ReplicaView[];
  /** How many there are in all. */
  total: number;
};

/** Where a replica is in its life. */
export type ReplicaState = "starting" | "ready" | "draining" | "stopped" | "failed";

/** One running copy of a deployment. */
export type ReplicaStatus = {
  /** Milliseconds since it was first heard of. */
  age_ms: number;
  /** What it is doing while it starts, for people. */
  doing?: string;
  /** Why it failed, for operators. */
  error?: string;
  /** Its id. */
  id: ReplicaId;
  /** Why it ended the last time, whatever it does now. */
  last_error?: string;
  /** Name of its node. */
  node: string;
  /** Requests that it is working on. */
  ongoing: number;
  /** Process it runs in. */
  pid: number;
  /** How often it was started again. */
  restarts: number;
  /** Revision it serves. */
  revision: number;
  /** Where it is in its life. */
  state: ReplicaState;
};

/** A replica and whose it is. */
export type ReplicaView = {
  /** Milliseconds since it was first heard of. */
  age_ms: number;
  /** `pipeline/deployment`. */
  deployment: string;
  /** What it is doing while it starts, for people. */
  doing?: string;
  /** Why it failed, for operators. */
  error?: string;
  /** Its id. */
  id: ReplicaId;
  /** Why it ended the last time, whatever it does now. */
  last_error?: string;
  /** Name of its node. */
  node: string;
  /** Requests that it is working on. */
  ongoing: number;
  /** Process it runs in. */
  pid: number;
  /** How often it was started again. */
  restarts: number;
  /** Revision it serves. */
  revision: number;
  /** Where it is in its life. */
  state: ReplicaState;
};

/** What a number of replicas cost and was worth. */
export type Replicas = {
  /** Most ready replicas at a time. */
  max_ready: number;
  /** Time that replicas were there, summed, in seconds. */
  replica_seconds: number;
  /** The part of the calls that came while others waited, 0 to 1. */
  waited_ratio: number;
};

/** A request with all that was done for it. */
export type RequestTrace = {
  /** When it came, in milliseconds since the Unix epoch. */
  at_ms: number;
  /** How long it took. */
  duration_ms: number;
  /** Name of the ingress that took it. */
  ingress: string;
  /** Why its trace was kept. */
  kept: TraceKept;
  /** The id of the span that the client has sent, if it has. */
  parent_id?: string | null;
  /** The pipeline; empty for a request that no pipeline takes. */
  pipeline: string;
  /** The request's id, as in the header `x-request-id`. */
  request_id: string;
  /** The revision that it ran on; 0 if it ran on none. */
  revision: number;
  /** What was done, in the order in which it began; the request itself first. */
  spans: TraceSpan[];
  /** The HTTP status of its answer; 499 for a client that left. */
  status: number;
  /** The trace's id, as in the header `traceparent`. */
  trace_id: string;
};

/** A revision that is kept. */
export type RevisionEntry = {
  /** Who deployed it. */
  by: string;
  /** Milliseconds since the Unix epoch. */
  deployed_at_ms: number;
  /** Its file's name. */
  file_name: string;
  /** Lines of its file. */
  lines: number;
  /** Its number. */
  revision: number;
  /** Why it does not serve, if it was taken back. */
  verdict?: VerdictStatus | null;
};

/** What whoever has a token may do. */
export type Role = "viewer" | "admin";

/** What a change of a rollout came to. */
export type RolledView = {
  /** The revision that is wanted now. */
  revision: number;
  /** Of an undo: the revision whose text it has. */
  text_of?: number | null;
  /** Of an undo: why that one did not serve, where it was taken back before. */
  warning?: string | null;
};

/** How traffic comes to a new revision. */
export type RolloutMode = "rolling" | "canary" | "shadow" | "steps";

/** How far a rollout is. */
export type RolloutPhase = "starting" | "trial" | "moving" | "watching";

/** How a revision takes over from another. */
export type RolloutStatus = {
  /** The one that serves until then, and again should the new one fail. */
  baseline: number;
  /** Copies whose answers were compared. */
  compared: number;
  /** Copies whose answers differed. */
  different: number;
  /** What its latest requests say of it so far, in words. */
  judgement: string;
  /** How traffic comes to it. */
  mode: RolloutMode;
  /** What came of requests on the new revision since its trial began. */
  new: OutcomeCounts;
  /** Its next step, where it takes over by steps. */
  next_step?: NextStepStatus | null;
  /** The same on the baseline. */
  old: OutcomeCounts;
  /** How far it is. */
  phase: RolloutPhase;
  /** Time in this phase, or with this part of the requests. */
  phase_ms: number;
  /** The revision that takes over. */
  revision: number;
  /** Copies that failed although the request did not. */
  shadow_failed: number;
  /** Part of the requests that are copied, 0 to 1. */
  shadow_ratio: number;
  /** Part of the requests that it answers, 0 to 1. */
  traffic_ratio: number;
};

/** A step of a rollout. */
export type RolloutStep = "begun" | "trial" | "half" | "moving" | "moved" | "over";

/** A pipeline's part of the route table. */
export type RouteView = {
  /** The ready replicas of each deployment, by name. */
  deployments: DeploymentRouteView[];
  /** The pipeline. */
  pipeline: string;
  /** The revisions that requests run on, the one that serves first. */
  variants: VariantView[];
};

/** What a change of the number of replicas was made of. */
export type ScaleInputs = {
  /** `min_replicas` or `max_replicas`, when that bound held the number. */
  bounded_by?: string | null;
  /** Ongoing requests, waiting ones included, averaged over `look_back`. */
  ongoing: number;
  /** Requests that waited at that moment. */
  queued: number;
  /** Replicas that were ready. */
  ready: number;
  /** Replicas that were starting. */
  starting: number;
  /** Ongoing requests per replica aimed at. */
  target_ongoing_requests: number;
  /** Replicas that the load asks for, within bounds. */
  wanted: number;
};

/** What an ingress speaks. */
export type Scheme = "http" | "https";

/** Series that begin at the same time, with the same step. */
export type Series = {
  /** The series, by metric and name. */
  series: OneSeries[];
  /** When the first value's step begins, in milliseconds since the Unix epoch. */
  start_unix_ms: number;
  /** Milliseconds per value. */
  step_ms: number;
};

/** How long the processes may finish what they have. */
export type ShutdownBody = {
  /** Milliseconds. */
  drain_ms: number;
};

/** What kind of work a span is. */
export type SpanKind = "request" | "stage" | "queue" | "try" | "batch" | "run";

/** A span of another trace. */
export type SpanLink = {
  /** The span. */
  span_id: string;
  /** The trace. */
  trace_id: string;
};

/** The calls of a stage in the last minute. */
export type StageTraffic = {
  /** Calls a second, failed ones included. */
  calls_per_second: number;
  /** Calls a second that failed, whether or not the request did. */
  failed_per_second: number;
  /** What half of the calls took at most, in milliseconds, with waiting and every try; at most a quarter too high. */
  p50_ms?: number | null;
  /** The same of 99%. */
  p99_ms?: number | null;
  /** Its name. */
  stage: string;
};

/** A group of targets as Prometheus reads it (`http_sd_configs`). */
export type TargetGroup = {
  /** What is known of them; gone after relabelling. */
  labels: Record<string, string>;
  /** `HOST:PORT` of processes. */
  targets: string[];
};

/** A token to make. Whoever asks makes it; the head never sees it. */
export type TokenBody = {
  /** Its name. */
  name: string;
  /** What whoever has it may do. */
  role: Role;
  /** SHA-256 of the token, in hexadecimal. */
  sha256: string;
  /** How long it counts, in milliseconds; absent: until it is deleted. */
  ttl_ms?: number | null;
};

/** A token, without its secret. */
export type TokenStatus = {
  /** Milliseconds since the Unix epoch. */
  created_at_ms: number;
  /** When it ends, in milliseconds since the Unix epoch; absent: when it is deleted. */
  expires_at_ms?: number | null;
  /** Its name. */
  name: string;
  /** What whoever has it may do. */
  role: Role;
};

/** Why a trace was kept. */
export type TraceKept = "failed" | "slow" | "sample";

/** Something that was done. */
export type TraceSpan = {
  /** What else is known of it. */
  attributes?: Record<string, unknown>;
  /** Microseconds that it took. */
  duration_us: number;
  /** Class of the error that it ended with. */
  error?: string | null;
  /** What kind of work it is. */
  kind: SpanKind;
  /** Calls of other requests that it was shared with, at most 16: the run of a batch. */
  links?: SpanLink[];
  /** What it is, for people. */
  name: string;
  /** The span that it is a part of. */
  parent_id?: string | null;
  /** Its id. */
  span_id: string;
  /** Microseconds from the request's beginning to its own. */
  start_us: number;
};

/** A request whose trace was kept, without its spans. */
export type TracedRequest = {
  /** When it came, in milliseconds since the Unix epoch. */
  at_ms: number;
  /** How long it took. */
  duration_ms: number;
  /** Name of the ingress that took it. */
  ingress: string;
  /** Why its trace was kept. */
  kept: TraceKept;
  /** The pipeline; empty for a request that no pipeline takes. */
  pipeline: string;
  /** The request's id, as in the header `x-request-id`. */
  request_id: string;
  /** The revision that it ran on; 0 if it ran on none. */
  revision: number;
  /** The HTTP status of its answer; 499 for a client that left. */
  status: number;
  /** The trace's id, as in the header `traceparent`. */
  trace_id: string;
};

/** Requests whose traces were kept, the newest first. */
export type TracedRequests = {
  /** Without their spans. */
  requests: TracedRequest[];
};

/** The requests of the last minute, or of as long as they have been counted. */
export type TrafficStatus = {
  /** The part of them that failed by a fault of the server, 0 to 1. */
  failed_ratio: number;
  /** What half of those with an answer took at most, in milliseconds; at most a quarter too high. Absent without any. */
  p50_ms?: number | null;
  /** The same of 95%. */
  p95_ms?: number | null;
  /** The same of 99%. */
  p99_ms?: number | null;
  /** Requests a second. */
  requests_per_second: number;
};

/** Which revision to go back to. */
export type UndoBody = {
  /** Its number; absent: the one before. */
  to_revision?: number | null;
};

/** What keys have used since some hour. */
export type UsageReport = {
  /** By hour, key and model, as far as they are told apart. */
  rows: UsageRow[];
  /** Start of the first hour that counts, in milliseconds since the Unix epoch. */
  since_ms: number;
};

/** What was used, summed up over what is not told apart. */
export type UsageRow = {
  /** Start of the hour, in milliseconds since the Unix epoch; absent when hours are not told apart. */
  hour_ms?: number | null;
  /** Tokens that went into models. */
  input_tokens: number;
  /** The key; absent when keys are not told apart. */
  key?: string | null;
  /**
   * The pipeline or the deployment; empty for requests that were turned away before it was known, absent when models are not
   * told apart.
   */
  model?: string | null;
  /** Tokens that models made. */
  output_tokens: number;
  /** Requests that were turned away before they ran. */
  refused: number;
  /** Requests, those that were turned away among them. */
  requests: number;
};

/** A revision that requests run on. */
export type VariantView = {
  /** Thousandths of the requests that it answers. */
  permille: number;
  /** Its number. */
  revision: number;
  /** Thousandths of the requests that it gets copies of. */
  shadow_permille: number;
};

/** Why a revision does not serve. */
export type VerdictStatus = {
  /** Milliseconds since the Unix epoch. */
  at_ms: number;
  /** `rolled_back` by the head, or `aborted` by people. */
  outcome: string;
  /** Why. */
  reason: string;
  /** The revision. */
  revision: number;
};

/** What was, and what would have been. */
export type WhatIf = {
  /** What was. */
  actual: Replicas;
  /** `pipeline/deployment`. */
  deployment: string;
  /** What would have been. */
  simulated: WouldBe;
};

/** Which deployment, and what is other than it is; what is left out is as it is. */
export type WhatIfRequest = {
  /** `pipeline/deployment`. */
  deployment: string;
  /** Most replicas. */
  max_replicas?: number | null;
  /** Fewest replicas. */
  min_replicas?: number | null;
  /** How far back, in seconds; an hour by default, which is what is recorded. */
  since_s?: number | null;
  /** Ongoing requests per replica that the autoscaler aims at. */
  target_ongoing_requests?: number | null;
};

/** A worker and its version. */
export type WorkerVersion = {
  /** Name of its node. */
  node: string;
  /** Version of its program. */
  version: string;
};

/** What would have been, second by second. */
export type WouldBe = {
  /** Most ready replicas at a time. */
  max_ready: number;
  /** Calls that waited. */
  queued: number[];
  /** Ready replicas. */
  ready: number[];
  /** Time that replicas were there, summed, in seconds. */
  replica_seconds: number;
  /** When the first value was, in milliseconds since the Unix epoch. */
  start_unix_ms: number;
  /** Milliseconds per value. */
  step_ms: number;
  /** The part of the calls that came while others waited, 0 to 1. */
  waited_ratio: number;
};

/** What stands in the query of a path; nothing and null are left out. */
export type Value = string | number | null | undefined;

/** What each path takes, by name in the path or its query and as its body, and answers. */
export type Calls = {
  /** The admin addresses of all processes, for Prometheus's `http_sd_configs`. One that is gone stays for ten minutes. */
  "GET /-/targets": { values: Record<string, never>; body: undefined; answer: TargetGroup[] };
  /** Which moves of replicas would make whole GPUs free. */
  "GET /api/defrag": { values: Record<string, never>; body: undefined; answer: DefragPlan };
  /** Checks and stores pipelines, all or none. */
  "POST /api/deploy": { values: Record<string, never>; body: DeployBody; answer: DeployedView[] };
  /** What was decided, and why: the same as `cluster explain --json`. */
  "GET /api/events": { values: { target?: Value; since_ms?: Value; limit?: Value }; body: undefined; answer: Events };
  /** The head from inside: versions, alarm, routes. */
  "GET /api/head": { values: Record<string, never>; body: undefined; answer: Inspection };
  /** The heads of the cluster, and which of them leads; any of them answers. */
  "GET /api/heads": { values: Record<string, never>; body: undefined; answer: HeadStatus[] };
  /** Lets another head lead; refused where there is no other. */
  "POST /api/heads/step-down": { values: Record<string, never>; body: undefined; answer: Done };
  /** The API keys. */
  "GET /api/keys": { values: Record<string, never>; body: undefined; answer: KeyStatus[] };
  /** Makes an API key. */
  "POST /api/keys": { values: Record<string, never>; body: KeyBody; answer: KeyStatus };
  /** Deletes an API key. */
  "DELETE /api/keys/{name}": { values: { name: string }; body: undefined; answer: Done };
  /** Changes an API key's limits in place. */
  "PATCH /api/keys/{name}": { values: { name: string }; body: KeyRequest; answer: KeyStatus };
  /** Server-sent events: `summary` at once and at each change, at most once a second; `decision` for each decision. */
  "GET /api/live": { values: Record<string, never>; body: undefined; answer: unknown };
  /** Who asks, and of which cluster. */
  "GET /api/me": { values: Record<string, never>; body: undefined; answer: Me };
  /** Gives up a node that is gone for good. */
  "DELETE /api/nodes/{name}": { values: { name: string }; body: undefined; answer: Done };
  /** Nothing new is placed on the node; what runs there stays. Ends a drain. */
  "POST /api/nodes/{name}/cordon": { values: { name: string }; body: undefined; answer: NodeView };
  /** Replaces what runs on the node on other nodes, each replica before it stops. Answers at once; in `/api/status` the node is `draining` until nothing runs there, then `cordoned`. */
  "POST /api/nodes/{name}/drain": { values: { name: string }; body: undefined; answer: NodeView };
  /** The node takes replicas again. Ends a drain. */
  "POST /api/nodes/{name}/uncordon": { values: { name: string }; body: undefined; answer: NodeView };
  /** This API as an OpenAPI 3.1 document. */
  "GET /api/openapi.json": { values: Record<string, never>; body: undefined; answer: unknown };
  /** The pipelines that are deployed. */
  "GET /api/pipelines": { values: Record<string, never>; body: undefined; answer: PipelineEntry[] };
  /** Removes a pipeline; an undo within an hour brings it back. */
  "DELETE /api/pipelines/{name}": { values: { name: string }; body: undefined; answer: Done };
  /** A pipeline's file as it was deployed. */
  "GET /api/pipelines/{name}": { values: { name: string; revision?: Value }; body: undefined; answer: PipelineSource };
  /** Back to what the file says. */
  "DELETE /api/pipelines/{name}/deployments/{deployment}/bounds": {
    values: { name: string; deployment: string };
    body: undefined;
    answer: BoundsView;
  };
  /** Sets how many replicas there may be, in place of the file. */
  "PUT /api/pipelines/{name}/deployments/{deployment}/bounds": {
    values: { name: string; deployment: string };
    body: BoundsBody;
    answer: BoundsView;
  };
  /** A pipeline's stages, and which waits for which. */
  "GET /api/pipelines/{name}/graph": { values: { name: string }; body: undefined; answer: Graph };
  /** The revisions that are kept, the oldest first. */
  "GET /api/pipelines/{name}/revisions": { values: { name: string }; body: undefined; answer: RevisionEntry[] };
  /** Gives a canary another part of the requests. */
  "PUT /api/pipelines/{name}/rollout": { values: { name: string }; body: PartBody; answer: RolledView };
  /** Takes back the revision that takes over. */
  "POST /api/pipelines/{name}/rollout/abort": { values: { name: string }; body: undefined; answer: RolledView };
  /** Lets a canary or a shadow take over. */
  "POST /api/pipelines/{name}/rollout/promote": { values: { name: string }; body: undefined; answer: RolledView };
  /** Goes back to an earlier revision. */
  "POST /api/pipelines/{name}/rollout/undo": { values: { name: string }; body: UndoBody; answer: RolledView };
  /** The calls of a pipeline's stages in the last minute. */
  "GET /api/pipelines/{name}/stages": { values: { name: string }; body: undefined; answer: StageTraffic[] };
  /** What a deploy would do, without doing it. */
  "POST /api/plan": { values: Record<string, never>; body: DeployBody; answer: DeployPlan[] };
  /** The replicas, a page at a time. */
  "GET /api/replicas": {
    values: { deployment?: Value; node?: Value; state?: Value; offset?: Value; limit?: Value };
    body: undefined;
    answer: ReplicaPage;
  };
  /** Requests that failed or were slow, and some others, of which there is a trace. */
  "GET /api/requests": {
    values: { pipeline?: Value; status?: Value; limit?: Value };
    body: undefined;
    answer: TracedRequests;
  };
  /** Where the time of a request went, by the request's id or the trace's. */
  "GET /api/requests/{id}": { values: { id: string }; body: undefined; answer: RequestTrace };
  /** The last hour of the cluster's numbers. */
  "GET /api/series": {
    values: { pipeline?: Value; deployment?: Value; node?: Value; metric?: Value; since?: Value; step?: Value };
    body: undefined;
    answer: Series;
  };
  /** Drains and ends every process of the cluster. */
  "POST /api/shutdown": { values: Record<string, never>; body: ShutdownBody; answer: Done };
  /** What the last hour of a deployment would have come to with other bounds; changes nothing. */
  "POST /api/simulate": { values: Record<string, never>; body: WhatIfRequest; answer: WhatIf };
  /** All that people asked for, as the file that `cluster state import` takes; it has the hashes of API keys. */
  "GET /api/state": { values: Record<string, never>; body: undefined; answer: unknown };
  /** Nodes, pipelines, deployments and replicas: the same JSON as `cluster status --json`. */
  "GET /api/status": { values: Record<string, never>; body: undefined; answer: ClusterStatus };
  /** The same without the single replicas, and whether all is well. */
  "GET /api/summary": { values: Record<string, never>; body: undefined; answer: ClusterSummary };
  /** The tokens for the dashboard. */
  "GET /api/tokens": { values: Record<string, never>; body: undefined; answer: TokenStatus[] };
  /** Makes a token for the dashboard. */
  "POST /api/tokens": { values: Record<string, never>; body: TokenBody; answer: TokenStatus };
  /** Deletes a token for the dashboard. */
  "DELETE /api/tokens/{name}": { values: { name: string }; body: undefined; answer: Done };
  /** What API keys have used, by the hour: the same as `cluster usage --json`. */
  "GET /api/usage": { values: { since_ms?: Value; by?: Value }; body: undefined; answer: UsageReport };
};
