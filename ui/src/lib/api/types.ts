// What the admin API says, in one place. Names are those of its OpenAPI document: absent is `null` or `[]`, never missing.

export type Role = 'admin' | 'user';

export interface Session {
  role: Role;
  user: string | null;
  csrf: string;
  expires: string;
}

export interface Page<T> {
  rows: T[];
  next: string | null;
  /** Of lists that can be searched: how many match. */
  total?: number;
}

export type Protocol = 'openai' | 'anthropic' | 'gemini';
export type Origin = 'api' | 'file';

export interface Budget<T> {
  day: T;
  month: T;
  total: T;
}

export interface Limits {
  rpm: number | null;
  tpm: number | null;
  concurrency: number | null;
  budget_usd: Budget<string | null>;
}

export interface Used {
  rpm: number;
  tpm: number;
  concurrency: number;
  budget_usd: Budget<string>;
}

export interface Key {
  id: string;
  name: string;
  user: string | null;
  enabled: boolean;
  expires: string | null;
  protocols: Protocol[];
  models: string[];
  channels: string[];
  limits: Limits;
  previous_until: string | null;
  last_used: string | null;
  origin: Origin;
  shadowed: boolean;
  used?: Used | null;
  etag?: string;
}

/** The only answer that holds a secret. */
export interface MadeKey extends Key {
  key: string;
}

export interface User {
  name: string;
  role?: Role;
  has_password?: boolean;
  limits: Limits;
  price_rate: string;
  max_keys: number;
  origin: Origin;
  shadowed: boolean;
  used?: Used | null;
  last_used?: string | null;
  etag?: string;
}

export type ChannelState = 'healthy' | 'cooling' | 'trial' | 'draining' | 'disabled';

export interface ChannelKey {
  name: string;
  state?: ChannelState;
  cooling_until?: string | null;
}

export interface Channel {
  name: string;
  protocol: Protocol;
  base_url: string;
  keys: ChannelKey[];
  models: string[];
  model_map: Record<string, string>;
  inject_usage: boolean;
  timeouts: { connect: string; first_byte: string; idle: string };
  priority: number;
  weight: number;
  on_disconnect: 'drain' | 'abort';
  max_concurrency: number;
  retry: { attempts: number; within: string; on: (string | number)[] };
  cooldown: { failures: number; for: string };
  limits: Limits;
  origin: Origin;
  shadowed: boolean;
  state?: ChannelState;
  cooling_until?: string | null;
  in_flight?: number;
  used?: Used | null;
  etag?: string;
}

export interface ChannelRun {
  ok: boolean;
  model: string | null;
  key: string | null;
  status: number | null;
  connect_ms: number | null;
  first_token_ms: number | null;
  total_ms: number | null;
  tokens: { input: number | null; output: number | null } | null;
  text: string | null;
  error: { code: string; message: string; detail: string | null } | null;
}

/** The figures that rows of usage have. */
export interface Figures {
  requests: number;
  failed: number;
  events: number;
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
  reasoning_tokens: number;
  cost_micro_usd: number;
  cost_nano_usd: number;
  unpriced: number;
}

export type By = 'day' | 'key' | 'user' | 'model' | 'channel' | 'route';

export type UsageRow = Figures & { time: string | null } & Partial<Record<By, string>>;

export type Outcome = 'ok' | 'client_abort' | 'upstream_abort' | 'refused' | 'upstream_error' | 'timeout';

export interface Attempt {
  channel: string;
  channel_key: string | null;
  outcome: Outcome;
  status: number | null;
  duration_ms: number;
}

/** A request record. Those of a user's own page lack what is for administrators. */
export interface RequestRecord {
  id: string;
  time: string;
  node?: string;
  key_id?: string | null;
  key_name: string | null;
  user?: string | null;
  route?: string | null;
  operation: string | null;
  protocol: Protocol;
  channel?: string | null;
  channel_key?: string | null;
  model_requested: string | null;
  model_upstream?: string | null;
  model_reported?: string | null;
  stream: boolean;
  status: number | null;
  outcome: Outcome;
  error: string | null;
  attempts?: Attempt[];
  events: number;
  request_bytes?: number;
  response_bytes?: number;
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
  reasoning_tokens: number;
  usage_source: 'upstream' | 'partial' | 'estimated' | 'none';
  usage_raw?: string | null;
  cost_nano_usd: number;
  duration_ms: number;
  ttft_ms: number | null;
  overhead_us?: number | null;
  client_ip?: string | null;
  user_agent?: string | null;
  traceparent?: string | null;
  request_headers?: Record<string, string> | null;
  request_body?: unknown;
  response_headers?: Record<string, string> | null;
  response_body?: unknown;
}

export type AttentionKind =
  | 'channel_cooling'
  | 'channel_down'
  | 'budget_near'
  | 'budget_spent'
  | 'records_dropped'
  | 'sink_failing'
  | 'config_refused'
  | 'store_down'
  | 'disk_low'
  | 'not_ready';

export interface Attention {
  kind: AttentionKind;
  level: 'warning' | 'critical';
  subject: string | null;
  values: Record<string, unknown>;
}

export interface SeriesPoint {
  time: string;
  requests: number;
  failed: number;
  cost_micro_usd: number;
  input_tokens: number;
  output_tokens: number;
}

export interface Overview {
  time: string;
  version: string;
  uptime_s: number;
  ready: boolean;
  attention: Attention[];
  now: { requests_per_s: number; streams: number; in_flight: number };
  today: Figures & { spend_nano_usd: number };
  yesterday: Figures & { spend_nano_usd?: number; whole: Figures };
  first_token_ms: { p50: number | null; p95: number | null };
  series: SeriesPoint[];
}

export interface PriceRates {
  input?: string;
  output?: string;
  cache_read?: string;
  cache_write_5m?: string;
  cache_write_1h?: string;
  reasoning?: string;
}

export interface PriceEntry extends PriceRates {
  model: string;
  per_request?: string;
  per_image?: string;
  max_output_tokens?: number;
  tiers?: (PriceRates & { above: number })[];
}

export interface Prices {
  origin: Origin | null;
  version: string | null;
  models: PriceEntry[];
  etag?: string;
}

export interface Mistake {
  line: number | null;
  column: number | null;
  message: string;
}

export interface Config {
  version: number;
  loaded_at: string | null;
  path: string | null;
  running: Record<string, unknown>;
  file: { state: 'same' | 'changed' | 'invalid' | 'missing'; mistakes: (Mistake | string)[]; text: string | null };
  last_reload: { time: string; ok: boolean; mistakes: (Mistake | string)[] } | null;
}

export interface Check {
  valid: boolean;
  mistakes: (Mistake | string)[];
}

export interface Change {
  id: string | number;
  time: string;
  who: string;
  action: string;
  kind: string | null;
  name: string | null;
  before: Record<string, unknown> | null;
  after: Record<string, unknown> | null;
}

export interface ProxyTest {
  status: number | null;
  request_id: string | null;
  channel: string | null;
  first_token_ms: number | null;
  total_ms: number | null;
  text: string | null;
  error: unknown;
}

export interface Summary {
  user: string | null;
  today: Figures;
  month: Figures;
  total: Figures;
  /** A user's limits, or `null`; what is used of them stands beside them. */
  limits: (Limits & { used?: Used | null }) | null;
}

export interface OwnModel {
  model: string;
  prices: PriceRates | null;
}
