// The JSON of the head's REST API, as the dashboard reads it. To be generated from `/api/openapi.json`; until then it is
// kept by hand, in this one file, under the names that the schemas have there.

/** Who asks, and which cluster answers. */
export interface Me {
  role: "admin" | "viewer";
  cluster: string;
  version: string;
}

/** An error answer: `application/problem+json`. */
export interface Problem {
  type?: string;
  title: string;
  status: number;
  detail?: string;
  errors?: Fault[];
}

/** One thing that is wrong with what was sent; `path` is a file's name where files were sent. */
export interface Fault {
  path: string;
  line?: number;
  column?: number;
  message: string;
  help?: string;
}

/** The whole cluster without its single replicas. */
export interface ClusterSummary {
  at_ms: number;
  leader: string;
  epoch: number;
  health: Health;
  requests_per_second: number;
  failed_ratio: number;
  p50_ms?: number | null;
  p99_ms?: number | null;
  nodes: NodeSummary[];
  ingresses: IngressStatus[];
  pipelines: PipelineSummary[];
}

export interface Health {
  state: HealthState;
  sentence: string;
}

export type HealthState = "ok" | "degraded" | "failing";

export interface NodeSummary {
  name: string;
  id: string;
  state: NodeState;
  address: string;
  pid: number;
  cpu_milli: number;
  free_cpu_milli: number;
  memory_bytes: number;
  free_memory_bytes: number;
  labels: Record<string, string>;
  gpus: GpuSummary[];
  last_seen_ms_ago: number;
}

export type NodeState = "ready" | "cordoned" | "draining" | "left" | "unreachable";

export interface GpuSummary {
  index: number;
  model: string;
  memory_bytes: number;
  free_share: number;
  booked_share: number;
  holders: GpuHolderSummary[];
}

/** What the replicas of one deployment hold of a device, together. */
export interface GpuHolderSummary {
  deployment: string;
  share: number;
  replicas: number;
}

export interface IngressStatus {
  name: string;
  address: string;
  routes_version: number;
}

export interface PipelineSummary {
  name: string;
  route?: string | null;
  revision: number;
  newest_revision: number;
  serving_revision?: number | null;
  state: PipelineState;
  mismatch?: string;
  traffic: Traffic;
  deployed_at_ms: number;
  rollout?: RolloutStatus;
  verdicts?: VerdictStatus[];
  deployments: DeploymentSummary[];
}

export type PipelineState = "starting" | "ready" | "degraded" | "failed";

export interface Traffic {
  requests_per_second: number;
  failed_ratio: number;
  p50_ms?: number | null;
  p95_ms?: number | null;
}

export interface DeploymentSummary {
  name: string;
  full_name: string;
  target_replicas: number;
  desired_replicas: number;
  target_ongoing_requests: number;
  ready_replicas: number;
  ongoing: number;
  queued: number;
  replica_counts: ReplicaCounts;
  pending: string[];
  min_replicas: number;
  max_replicas: number;
  bounds_by_hand: boolean;
  model?: string;
}

export type ReplicaState = "starting" | "ready" | "draining" | "stopped" | "failed";

export type ReplicaCounts = Record<ReplicaState, number>;

export interface ReplicaPage {
  total: number;
  replicas: ReplicaView[];
}

export interface ReplicaView {
  id: string;
  deployment: string;
  node: string;
  state: ReplicaState;
  pid: number;
  revision: number;
  ongoing: number;
  doing?: string;
  error?: string;
  restarts: number;
  last_error?: string;
  age_ms: number;
}

export interface RolloutStatus {
  revision: number;
  baseline: number;
  phase: "starting" | "trial" | "moving" | "watching";
  mode: "rolling" | "canary" | "shadow" | "steps";
  traffic_ratio: number;
  phase_ms: number;
  next_step?: { traffic_ratio: number; in_ms: number };
  judgement: string;
  new: OutcomeCounts;
  old: OutcomeCounts;
  shadow_ratio: number;
  compared: number;
  different: number;
  shadow_failed: number;
}

export interface OutcomeCounts {
  requests_answered: number;
  requests_failed: number;
  calls_answered: number;
  calls_failed: number;
  traffic: Traffic;
}

export interface VerdictStatus {
  revision: number;
  outcome: string;
  reason: string;
  at_ms: number;
}

/** A decision of the head, with the sentence that says it. */
export type EventView = EventFrame & (Scaled | OtherDecision);

export interface EventFrame {
  sequence: number;
  at_ms: number;
  subject: string;
  text: string;
  inputs_text?: string | null;
  pipeline?: string | null;
  deployment?: string | null;
}

export interface Scaled {
  kind: "scaled";
  from: number;
  to: number;
  rule: string;
  inputs: ScaleInputs;
}

/** Its further keys depend on the kind. */
export interface OtherDecision {
  kind: string;
}

/** What a decision to scale was made of. */
export interface ScaleInputs {
  ongoing: number;
  queued: number;
  ready: number;
  starting: number;
  target_ongoing_requests: number;
  wanted: number;
  bounded_by?: string | null;
}

export interface EventPage {
  events: EventView[];
}

/** The stages of a pipeline and what each waits for. */
export interface Graph {
  pipeline: string;
  revision: number;
  stages: GraphStage[];
  response_after: string[];
}

export interface GraphStage {
  name: string;
  kind: "call" | "operator";
  deployment?: string;
  operator?: string;
  task?: string;
  after: string[];
  when?: boolean;
  for_each?: boolean;
  on_error?: string;
}

export interface StageTraffic {
  stage: string;
  calls_per_second: number;
  failed_per_second: number;
  p50_ms?: number | null;
  p99_ms?: number | null;
}

/** Values over time, one for each step. */
export interface SeriesPage {
  start_unix_ms: number;
  step_ms: number;
  series: Series[];
}

export interface Series {
  metric: string;
  pipeline?: string;
  deployment?: string;
  node?: string;
  values: (number | null)[];
}

export interface PipelineText {
  name: string;
  revision: number;
  file_name: string;
  source: string;
  deployed_at_ms: number;
}

export interface RevisionView {
  revision: number;
  file_name: string;
  deployed_at_ms: number;
  by?: string | null;
  /** How long its file is. */
  lines?: number | null;
  verdict?: { outcome: string; reason: string; at_ms: number } | null;
}

export interface RequestPage {
  requests: RequestSummary[];
}

export interface RequestSummary {
  request_id: string;
  trace_id: string;
  pipeline: string;
  revision: number;
  at_ms: number;
  duration_ms: number;
  status: number;
  kept: "slow" | "failed" | "sample";
}

export interface RequestDetail extends RequestSummary {
  spans: Span[];
}

export interface Span {
  span_id: string;
  parent_id?: string | null;
  name: string;
  kind: "request" | "stage" | "queue" | "try" | "batch" | "run";
  start_us: number;
  duration_us: number;
  attributes?: Record<string, unknown>;
  error?: string | null;
}

export interface DefragPlan {
  moves: ReplicaMove[];
  freed: DeviceRef[];
}

export interface ReplicaMove {
  replica: string;
  deployment: string;
  share: number;
  from: DeviceRef;
  to: DeviceRef;
}

export interface DeviceRef {
  node: string;
  index: number;
}

export interface DeployRequest {
  files: { file_name: string; source: string }[];
  canary_percent?: number;
  shadow_percent?: number;
}

export interface DeployPlan {
  pipeline: string;
  revision: number;
  changed: boolean;
  breaking: string[];
  captures?: string;
  deployments: DeploymentPlan[];
  is_cut_off: boolean;
}

export interface DeploymentPlan {
  full_name: string;
  change: "new" | "replaced" | "in_place" | "unchanged" | "removed";
  starts: PlannedReplica[];
  stops: PlannedReplica[];
  updates: PlannedReplica[];
  pending: string[];
}

export interface PlannedReplica {
  replica: string;
  node: string;
  gpus?: [number, number][];
}

export interface Deployed {
  name: string;
  revision: number;
  changed: boolean;
}

export interface RolloutAnswer {
  revision: number;
  text_of?: number;
  warning?: string;
}

export interface SimulateRequest {
  deployment: string;
  min_replicas?: number;
  max_replicas?: number;
  target_ongoing_requests?: number;
  since_s?: number;
}

export interface SimulateAnswer {
  actual: SimulatedCost;
  simulated: SimulatedCost & {
    start_unix_ms: number;
    step_ms: number;
    ready: (number | null)[];
    queued: (number | null)[];
  };
}

export interface SimulatedCost {
  replica_seconds: number;
  max_ready: number;
  waited_ratio?: number | null;
}
