-- One tenant.  The truth for new files; migrations/ brings older ones here.
-- Times are ms since the epoch.  A metric value stands as an order-preserving int64 of its bits
-- (points.py: to_ordered); raw doubles stand only inside journal payloads and chunks.
-- {bytes}, {pk} and {clustered} are the dialect's words for a byte string, for a primary key that the
-- rows are stored by, and for a table stored in the order of its key.
--
-- A row of a key in a run (param, tag, series) has the id `key << 36 | run` (places.py), by which it is
-- stored: the rows of one key lie in the order of their runs, and a search that walks the runs finds
-- each row beside the one before it.  By (key, run), without rowid, a look-up cost three times as much.

create table counter (              -- hi-lo allocation of run and journal numbers
    name text primary key,
    next bigint not null
);

create table meta (
    name text primary key,
    value bigint not null
);

create table experiment (
    number {pk},                    -- the experiment's id in the MLflow protocol; Default is 0
    experiment_id text not null unique,
    name text not null unique,      -- unique among the deleted too
    description text not null,
    lifecycle text not null,        -- active, deleted
    created_at bigint not null,
    updated_at bigint not null,
    artifact_location text
);

create table experiment_tag (
    experiment bigint not null,
    name text not null,
    value text not null,
    primary key (experiment, name)
){clustered};

create table run (
    id {pk},
    run_id text not null unique,
    experiment bigint not null,
    name text not null,
    user_id text,
    parent_run_id text,
    status text not null,
    start_time bigint not null,
    end_time bigint,
    heartbeat_at bigint not null,
    stop_requested bigint not null,
    lifecycle text not null,
    deleted_at bigint,
    description text not null       -- last, so that a scan never follows a long one into its overflow pages
);
create index run_by_start on run (start_time desc, run_id, lifecycle);
create index run_by_experiment on run (experiment, start_time desc, run_id, lifecycle);
create index run_by_parent on run (parent_run_id) where parent_run_id is not null;
create index run_by_deletion on run (deleted_at) where deleted_at is not null;

create table name (                 -- keys of metrics, parameters and tags
    id {pk},
    text text not null unique
);

create table param (
    id {pk},
    key bigint not null,
    run bigint not null,
    value text not null,
    number bigint                   -- ordered; null where the text is no number
);
create index param_by_run on param (run, key);
create index param_by_value on param (key, value);
create index param_by_number on param (key, number) where number is not null;

create table tag (
    id {pk},
    key bigint not null,
    run bigint not null,
    value text not null
);
create index tag_by_run on tag (run, key);
create index tag_by_value on tag (key, value);

-- Parameters and tags of new runs, on their way into param and tag: there each key of each run is a
-- page of its own to write, here all of a commit's stand together.
create table fresh_param (
    run bigint not null,
    key bigint not null,
    value text not null,
    number bigint,
    primary key (run, key)
){clustered};

create table fresh_tag (
    run bigint not null,
    key bigint not null,
    value text not null,
    primary key (run, key)
){clustered};

create table series (               -- behind the journal by what meta.counted says
    id {pk},
    key bigint not null,
    run bigint not null,
    last bigint not null,           -- what searches compare stands in front
    low bigint,                     -- null where every value is NaN
    high bigint,
    count bigint not null,
    late bigint not null,           -- the last journal row that may repeat earlier points; 0: count is exact
    first_step bigint not null,     -- the first and the last point in the series' order
    first_timestamp bigint not null,
    first bigint not null,
    last_step bigint not null,
    last_timestamp bigint not null,
    low_step bigint,
    high_step bigint
);
create index series_by_run on series (run, key);

create table journal (              -- what batches land in; compaction empties it
    id {pk},
    run bigint not null,
    points bigint not null,
    payload {bytes} not null        -- journal.py
);

-- The index of journal by run, for the rows that the statistics count.  A flush extends it, so that a
-- commit of many runs' batches need not write a page for each of them.
create table journal_run (
    run bigint not null,
    journal bigint not null,
    primary key (run, journal)
){clustered};

create view journal_of as           -- journal, where it is asked for by run
select x.run as run, x.journal as id, j.points as points, j.payload as payload
from journal_run x cross join journal j where j.id = x.journal
union all
select run, id, points, payload from journal
where id > coalesce((select value from meta where name = 'counted'), 0);

create table chunk (                -- sealed points of one series
    id {pk},
    run bigint not null,
    key bigint not null,
    count bigint not null,
    first_step bigint not null,     -- its first and last point: chunks are disjoint or not by these
    first_timestamp bigint not null,
    first bigint not null,
    last_step bigint not null,
    last_timestamp bigint not null,
    last bigint not null,
    summary {bytes} not null,       -- in front of the data, so that charts never read the data's pages
    data {bytes} not null           -- codec.py
);
create index chunk_by_series on chunk (run, key, first_step);

create table writer (               -- who logs into a run: the SDK's rank
    run bigint not null,
    rank bigint not null,
    heartbeat_at bigint not null,
    primary key (run, rank)
){clustered};

create table dataset (             -- what runs were trained or tested on
    id {pk},
    experiment bigint not null,
    name text not null,
    digest text not null,
    source_type text not null,
    source text not null,           -- this and the next two: JSON, opaque to us
    schema text,
    profile text,
    unique (experiment, name, digest)
);

create table dataset_use (
    run bigint not null,
    dataset bigint not null,
    primary key (run, dataset)
){clustered};
create index dataset_use_by_dataset on dataset_use (dataset, run);

create table dataset_use_tag (
    run bigint not null,
    dataset bigint not null,
    name text not null,
    value text not null,
    primary key (run, dataset, name)
){clustered};

create table model (                -- MLflow's logged models
    id {pk},
    model_id text not null unique,
    experiment bigint not null,
    name text not null,
    model_type text,
    source_run_id text,
    status text not null,           -- pending, ready, failed
    status_message text,
    created_at bigint not null,
    updated_at bigint not null,
    deleted_at bigint
);
create index model_by_name on model (experiment, name);
create index model_by_creation on model (experiment, created_at desc, model_id);
create index model_by_deletion on model (deleted_at) where deleted_at is not null;

create table model_param (
    model bigint not null,
    name text not null,
    value text not null,
    primary key (model, name)
){clustered};

create table model_tag (
    model bigint not null,
    name text not null,
    value text not null,
    primary key (model, name)
){clustered};

create table model_metric (         -- what was measured of a model; the run has the points too
    model bigint not null,
    name text not null,
    timestamp bigint not null,
    step bigint not null,
    run_id text not null,
    value bigint not null,
    dataset_name text not null,     -- empty: none
    dataset_digest text not null,
    primary key (model, name, timestamp, step, run_id, value, dataset_name, dataset_digest)
){clustered};

create table model_use (            -- what a run read (input) or made (output)
    run bigint not null,
    kind text not null,
    model_id text not null,
    step bigint not null,
    primary key (run, kind, model_id, step)
){clustered};

create table registered_model (     -- MLflow's model registry
    id {pk},
    name text not null unique,
    description text,
    next_version bigint not null,   -- the number of the next version; none is used twice
    created_at bigint not null,
    updated_at bigint not null
);

create table registered_model_tag (
    registered_model bigint not null,
    name text not null,
    value text not null,
    primary key (registered_model, name)
){clustered};

create table model_alias (          -- a name for one version, such as champion
    registered_model bigint not null,
    name text not null,
    version bigint not null,
    primary key (registered_model, name)
){clustered};

create table model_version (
    id {pk},
    registered_model bigint not null,
    version bigint not null,
    description text,
    user_id text,
    stage text not null,            -- None, Staging, Production, Archived
    source text not null,           -- what it was registered from, as it was said
    location text not null,         -- where its files lie
    run_id text,
    run_link text,
    model_id text,                  -- of the logged model that it came from
    created_at bigint not null,
    updated_at bigint not null,
    unique (registered_model, version)
);
create index model_version_by_run on model_version (run_id) where run_id is not null;
create index model_version_by_model on model_version (model_id) where model_id is not null;

create table model_version_tag (
    model_version bigint not null,
    name text not null,
    value text not null,
    primary key (model_version, name)
){clustered};

create table note (                 -- what is known of the tenant in words
    name text primary key,          -- description: what the workspace is for
    value text not null
);

create table console (
    run bigint not null,
    first_line bigint not null,     -- number of its first line within the run, from 0
    lines bigint not null,
    payload {bytes} not null,       -- zstd of msgpack [[stream, timestamp, text], ...], then crc32
    primary key (run, first_line)
);

create table purged (               -- runs that were deleted for good; their ids are never used again
    run_id text primary key,
    run bigint,                     -- its number while rows of it are left
    purged_at bigint not null
){clustered};
create index purged_unfinished on purged (run) where run is not null;

create table purging (              -- experiments of which runs are left that are to be deleted for good
    experiment {pk}
);
