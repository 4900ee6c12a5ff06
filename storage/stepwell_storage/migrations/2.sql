-- MLflow's model registry, and what is known of a tenant in words.

create table note (
    name text primary key,
    value text not null
);

create table registered_model (
    id {pk},
    name text not null unique,
    description text,
    next_version bigint not null,
    created_at bigint not null,
    updated_at bigint not null
);

create table registered_model_tag (
    registered_model bigint not null,
    name text not null,
    value text not null,
    primary key (registered_model, name)
){clustered};

create table model_alias (
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
    stage text not null,
    source text not null,
    location text not null,
    run_id text,
    run_link text,
    model_id text,
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
