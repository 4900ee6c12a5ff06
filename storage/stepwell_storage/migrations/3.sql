-- Deletion for good: what was purged, what is left of it, and when what can be restored was deleted.

create table purged (
    run_id text primary key,
    run bigint,
    purged_at bigint not null
){clustered};
create index purged_unfinished on purged (run) where run is not null;

create table purging (
    experiment {pk}
);

create index run_by_deletion on run (deleted_at) where deleted_at is not null;
create index model_by_deletion on model (deleted_at) where deleted_at is not null;
