-- import_experiment: one that was made elsewhere
insert into experiment (name, description, lifecycle, created_at, updated_at, artifact_location, number,
                        experiment_id)
values (?, ?, ?, ?, ?, ?, ?, ?);

-- describe_experiment: as it was elsewhere
update experiment set name = ?, description = ?, lifecycle = ?, created_at = ?, updated_at = ?,
                      artifact_location = ?
where number = ?;

-- clear_experiment_tags: of one experiment
delete from experiment_tag where experiment = ?;

-- import_run: one that was made elsewhere
insert into run (id, run_id, experiment, name, description, user_id, parent_run_id, status, start_time,
                 end_time, heartbeat_at, stop_requested, lifecycle, deleted_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?);

-- reimport_run: what may have changed of it since
update run set name = ?, description = ?, user_id = ?, parent_run_id = ?, status = ?, start_time = ?,
               end_time = ?, heartbeat_at = ?, lifecycle = ?, deleted_at = ?
where id = ?;

-- tags_of_run: with the numbers of their keys
select t.key, n.text from tag t join name n on n.id = t.key where t.run = ?;

-- models_by_ids: which of some models exist, deleted ones too
select model_id, id from model where model_id in (?*);

-- import_model: one that was made elsewhere
insert into model (id, model_id, experiment, name, model_type, source_run_id, status, status_message,
                   created_at, updated_at, deleted_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- reimport_model: what may have changed of it since
update model set status = ?, status_message = ?, created_at = ?, updated_at = ?, deleted_at = ? where id = ?;

-- clear_model_tags: of one model
delete from model_tag where model = ?;

-- run_numbers_from: a page of runs in the order in which they came
select id from run where id > ? order by id limit ?;

-- deletions_of_runs: when some runs were deleted
select id, deleted_at from run where deleted_at is not null and id in (?*);

-- chunks_of_runs: the sealed points of some runs
select c.run, n.text, c.count, c.first_step, c.first_timestamp, c.first, c.last_step, c.last_timestamp, c.last, c.id
from chunk c join name n on n.id = c.key
where c.run in (?*) order by c.run, c.key, c.first_step, c.first_timestamp, c.first;

-- names: texts of some keys
select id, text from name where id in (?*);

-- model_numbers_from: a page of models in the order in which they came, deleted ones too
select id, deleted_at from model where id > ? order by id limit ?;

-- next_version_after: one past the greatest number that was ever used
update registered_model
set next_version = (select max(n) from (
    select r.next_version as n from registered_model r where r.id = ?
    union all
    select max(v.version) + 1 from model_version v where v.registered_model = registered_model.id) as used)
where id = ?;

-- all_registered_models: in the order in which they came
select id from registered_model order by id;

-- all_model_versions: of one model
select id from model_version where registered_model = ? order by version;
