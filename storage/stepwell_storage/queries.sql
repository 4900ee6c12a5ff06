-- next_block: take a block of numbers of one kind
update counter set next = next + ? where name = ? returning next;

-- make_counter: a kind of number that is used for the first time
insert into counter (name, next) values (?, ?) on conflict (name) do nothing;

-- meta: a fact about this tenant
select value from meta where name = ?;

-- metas: some facts about this tenant
select name, value from meta where name in (?*);

-- set_meta: a fact about this tenant
insert into meta (name, value) values (?, ?) on conflict (name) do update set value = excluded.value;

-- names_by_text: the numbers of some keys
select text, id from name where text in (?*);

-- insert_name: a key that is used for the first time
insert into name (id, text) values (?, ?);

-- insert_experiment: a new experiment
insert into experiment (number, experiment_id, name, description, lifecycle, created_at, updated_at, artifact_location)
values (?, ?, ?, ?, 'active', ?, ?, ?);

-- next_experiment_number: one past the greatest, the purged ones included
select coalesce(max(number), -1) + 1
from (select max(number) as number from experiment
      union all select value from meta where name = 'purged_experiment') taken;

-- experiment_by_id: one experiment
select number, experiment_id, name, description, lifecycle, created_at, updated_at, artifact_location
from experiment where experiment_id = ?;

-- experiment_by_name: one experiment, deleted ones too
select number, experiment_id, name, description, lifecycle, created_at, updated_at, artifact_location
from experiment where name = ?;

-- experiment_by_number: one experiment
select number, experiment_id, name, description, lifecycle, created_at, updated_at, artifact_location
from experiment where number = ?;

-- experiments: a page, oldest first
select number, experiment_id, name, description, lifecycle, created_at, updated_at, artifact_location
from experiment where (? = 'all' or lifecycle = ?) and number > ? order by number limit ? offset ?;

-- count_experiments: how many there are
select count(*) from experiment where (? = 'all' or lifecycle = ?);

-- experiment_tags: the tags of some experiments
select experiment, name, value from experiment_tag where experiment in (?*) order by experiment, name;

-- run_counts: the active runs of some experiments
select experiment, count(*) from run where experiment in (?*) and lifecycle = 'active' group by experiment;

-- update_experiment: what may change
update experiment set name = ?, description = ?, lifecycle = ?, updated_at = ? where number = ?;

-- set_experiment_tag: overwrite
insert into experiment_tag (experiment, name, value) values (?, ?, ?)
on conflict (experiment, name) do update set value = excluded.value;

-- delete_experiment_tag: remove
delete from experiment_tag where experiment = ? and name = ?;

-- delete_runs_of: an experiment's deletion takes its active runs along
update run set lifecycle = 'deleted', deleted_at = ? where experiment = ? and lifecycle = 'active';

-- restore_runs_of: an experiment's restoration brings all its runs back
update run set lifecycle = 'active', deleted_at = null where experiment = ? and lifecycle = 'deleted';

-- runs_by_ids: what of some run ids exists
select run_id, id, experiment, lifecycle, stop_requested from run where run_id in (?*);

-- insert_run: a new run
insert into run (id, run_id, experiment, name, description, user_id, parent_run_id, status, start_time,
                 end_time, heartbeat_at, stop_requested, lifecycle)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, null, ?, 0, 'active');

-- run_row: what a change of a run needs
select id, name, description, status, end_time, stop_requested, lifecycle, heartbeat_at from run where run_id = ?;

-- update_run: what may change
update run set name = ?, description = ?, status = ?, end_time = ?, stop_requested = ?, lifecycle = ?,
               deleted_at = ?, heartbeat_at = ?
where id = ?;

-- heartbeat: a writer was heard of
update run set heartbeat_at = ? where id = ? and heartbeat_at < ?;

-- writer_heartbeat: a rank was heard of
insert into writer (run, rank, heartbeat_at) values (?, ?, ?)
on conflict (run, rank) do update set heartbeat_at = excluded.heartbeat_at;

-- params_of: parameters that some runs have already
select run, key, value from param where run in (?*);

-- insert_param: a parameter, set once
insert into param (id, key, run, value, number) values (?, ?, ?, ?, ?) on conflict (id) do nothing;

-- add_fresh_param: of a new run
insert into fresh_param (run, key, value, number) values (?, ?, ?, ?);

-- add_fresh_tag: of a new run
insert into fresh_tag (run, key, value) values (?, ?, ?);

-- count_fresh: parameters and tags of new runs that are on their way
select (select count(*) from fresh_param) + (select count(*) from fresh_tag);

-- file_params: those of new runs, into their place
insert into param (id, key, run, value, number)
select key * 68719476736 + run, key, run, value, number from fresh_param where true order by key, run
on conflict (id) do nothing;

-- clear_fresh_params: they are in their place
delete from fresh_param;

-- file_tags: those of new runs, into their place
insert into tag (id, key, run, value)
select key * 68719476736 + run, key, run, value from fresh_tag where true order by key, run
on conflict (id) do nothing;

-- clear_fresh_tags: they are in their place
delete from fresh_tag;

-- set_tag: overwrite
insert into tag (id, key, run, value) values (?, ?, ?, ?) on conflict (id) do update set value = excluded.value;

-- delete_tag: remove
delete from tag where key = ? and run = ?;

-- append_journal: one batch's points
insert into journal (id, run, points, payload) values (?, ?, ?, ?);

-- journal_after: rows that the statistics do not count yet
select id, run, points, payload from journal where id > ? order by id;

-- journal_of_runs: the tails that readers merge
select run, id, payload from journal_of where run in (?*) order by run, id;

-- journal_by_run: how much waits for compaction
select run, count(*), sum(points), sum(length(payload)) from journal group by run;

-- journal_sizes: some runs' oldest rows that are counted
select run, id, points from journal_of where run in (?*) and id <= ? order by run, id limit ?;

-- journal_rows: some runs' oldest rows
select run, id, points, payload from journal_of where run in (?*) and id <= ? order by run, id;

-- delete_journal: rows that became chunks
delete from journal where id in (?*);

-- list_journal: rows that the statistics count from now on, damaged ones among them; meta.counted comes after
insert into journal_run (run, journal)
select run, id from journal
where id > coalesce((select value from meta where name = 'counted'), 0) and id <= ? order by run, id;

-- unlist_sealed: some rows, before they are deleted
delete from journal_run where (run, journal) in (select run, id from journal where id in (?*));

-- unlist_journal: rows of one run that are gone
delete from journal_run where run = ? and journal in (?*);

-- merge_series: add what the journal brought to a series' statistics; meta.counting comes first
insert into series (id, key, run, count, late, first_step, first_timestamp, first,
                    last_step, last_timestamp, last, low, low_step, high, high_step)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (id) do update set
    count = series.count + excluded.count,
    late = case
        when (excluded.first_step, excluded.first_timestamp, excluded.first)
             <= (series.last_step, series.last_timestamp, series.last) and excluded.late = 0
        then (select coalesce(max(value), 0) from meta where name in ('counted', 'counting'))
        when excluded.late > 0 then excluded.late
        else series.late end,
    first_timestamp = case
        when (excluded.first_step, excluded.first_timestamp, excluded.first)
             < (series.first_step, series.first_timestamp, series.first)
        then excluded.first_timestamp else series.first_timestamp end,
    first = case
        when (excluded.first_step, excluded.first_timestamp, excluded.first)
             < (series.first_step, series.first_timestamp, series.first)
        then excluded.first else series.first end,
    first_step = case
        when (excluded.first_step, excluded.first_timestamp, excluded.first)
             < (series.first_step, series.first_timestamp, series.first)
        then excluded.first_step else series.first_step end,
    last_timestamp = case
        when (excluded.last_step, excluded.last_timestamp, excluded.last)
             > (series.last_step, series.last_timestamp, series.last)
        then excluded.last_timestamp else series.last_timestamp end,
    last = case
        when (excluded.last_step, excluded.last_timestamp, excluded.last)
             > (series.last_step, series.last_timestamp, series.last)
        then excluded.last else series.last end,
    last_step = case
        when (excluded.last_step, excluded.last_timestamp, excluded.last)
             > (series.last_step, series.last_timestamp, series.last)
        then excluded.last_step else series.last_step end,
    low_step = case
        when series.low is null or excluded.low < series.low
             or (excluded.low = series.low and excluded.low_step < series.low_step)
        then excluded.low_step else series.low_step end,
    low = case when series.low is null or excluded.low < series.low then excluded.low else series.low end,
    high_step = case
        when series.high is null or excluded.high > series.high
             or (excluded.high = series.high and excluded.high_step < series.high_step)
        then excluded.high_step else series.high_step end,
    high = case when series.high is null or excluded.high > series.high then excluded.high else series.high end;

-- correct_series: what compaction found out
update series set count = count - ?, late = case when late <= ? then 0 else late end where key = ? and run = ?;

-- late_series: series of some runs whose count may be too high
select key, run from series where run in (?*) and late > 0;

-- keys_of_run: which series a run has
select key from series where run = ?;

-- chunks_of_run: where a run's chunks lie
select key, id, count, first_step, first_timestamp, first, last_step, last_timestamp, last
from chunk where run = ? and key in (?*) order by key, first_step;

-- chunk_data: some chunks' points
select id, data from chunk where id in (?*);

-- delete_chunks: chunks that were absorbed
delete from chunk where id in (?*);

-- insert_chunk: sealed points
insert into chunk (id, run, key, count, first_step, first_timestamp, first,
                   last_step, last_timestamp, last, summary, data)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- series_ranges: where the chunks of a series lie
select id, count, first_step, first_timestamp, first, last_step, last_timestamp, last
from chunk where run = ? and key = ? and first_step <= ? and last_step >= ?
order by first_step, first_timestamp, first;

-- chart_chunks: the same of some series with what charts need of them, in no order: summaries are dear to sort
select run, key, id, count, first_step, first_timestamp, first, last_step, last_timestamp, last, summary
from chunk where run in (?*) and key in (?*) and first_step <= ? and last_step >= ?;

-- series_share: how many series a run has, and how many names there are, about
select (select count(*) from series where run = ?), (select coalesce(max(id), 0) from name);

-- series_page: a run's series by name
select n.text, s.count, s.late, s.last_step, s.last_timestamp, s.last, s.low, s.low_step, s.high, s.high_step
from series s join name n on n.id = s.key
where s.run = ? and n.text >= ? and n.text < ? and n.text > ?
order by n.text limit ?;

-- series_page_by_name: the same by walking the names, of which the run has most; a page then costs as much as it shows
select n.text, s.count, s.late, s.last_step, s.last_timestamp, s.last, s.low, s.low_step, s.high, s.high_step
from name n cross join series s
where s.run = ? and s.key = n.id and n.text >= ? and n.text < ? and n.text > ?
order by n.text limit ?;

-- series_keys: the names of all of a run's series
select n.text from series s join name n on n.id = s.key where s.run = ? order by n.text;

-- count_series: how many series a run has under a prefix
select count(*) from series s join name n on n.id = s.key where s.run = ? and n.text >= ? and n.text < ?;

-- append_console: lines of text
insert into console (run, first_line, lines, payload) values (?, ?, ?, ?);

-- console_end: the number of the next line
select coalesce(max(first_line + lines), 0) from console where run = ?;

-- console_from: lines from one on
select first_line, lines, payload from console where run = ? and first_line + lines > ? order by first_line limit ?;

-- all_runs: for verify
select id, run_id from run where id > ? order by id limit ?;

-- all_series: for verify
select key, count, late, first_step, first_timestamp, first, last_step, last_timestamp, last,
       low, low_step, high, high_step
from series where run = ?;

-- all_chunks: for verify
select key, id from chunk where run = ? order by key, first_step;

-- whole_chunk: for verify
select count, first_step, first_timestamp, first, last_step, last_timestamp, last, summary, data
from chunk where id = ?;

-- names_of_run: for verify
select n.id, n.text from series s join name n on n.id = s.key where s.run = ?;

-- census: how many experiments, runs and points a tenant has
select (select count(*) from experiment where lifecycle = 'active'),
       (select count(*) from run where lifecycle = 'active'),
       (select coalesce(sum(count), 0) from series);

-- run_number: the row number of a run
select id from run where run_id = ?;

-- dataset_numbers: which datasets of an experiment have these names
select name, digest, id from dataset where experiment = ? and name in (?*);

-- next_dataset: the number of the next dataset
select coalesce(max(id), 0) + 1 from dataset;

-- insert_dataset: one that is used for the first time in its experiment
insert into dataset (id, experiment, name, digest, source_type, source, schema, profile)
values (?, ?, ?, ?, ?, ?, ?, ?);

-- use_dataset: link it to a run; again changes nothing
insert into dataset_use (run, dataset) values (?, ?) on conflict (run, dataset) do nothing;

-- datasets_of_run: which ones a run has already
select dataset from dataset_use where run = ?;

-- set_dataset_use_tag: what a dataset is to a run
insert into dataset_use_tag (run, dataset, name, value) values (?, ?, ?, ?)
on conflict (run, dataset, name) do nothing;

-- datasets_of_runs: what some runs used
select u.run, d.id, d.name, d.digest, d.source_type, d.source, d.schema, d.profile
from dataset_use u join dataset d on d.id = u.dataset where u.run in (?*) order by u.run, d.id;

-- dataset_use_tags_of_runs: and as what
select run, dataset, name, value from dataset_use_tag where run in (?*) order by run, dataset, name;

-- datasets_of_experiments: each dataset with each role that it had
select distinct d.experiment, d.name, d.digest, t.value
from dataset d
join dataset_use u on u.dataset = d.id
left join dataset_use_tag t on t.run = u.run and t.dataset = u.dataset and t.name = 'mlflow.data.context'
where d.experiment in (?*) order by d.experiment, d.name, d.digest, t.value limit 1000;

-- use_model: link a model to a run; again changes nothing
insert into model_use (run, kind, model_id, step) values (?, ?, ?, ?)
on conflict (run, kind, model_id, step) do nothing;

-- models_of_runs: what some runs read and made
select run, kind, model_id, step from model_use where run in (?*) order by run, kind, step, model_id;

-- next_model: the number of the next model
select coalesce(max(id), 0) + 1 from model;

-- insert_model: a new model
insert into model (id, model_id, experiment, name, model_type, source_run_id, status, created_at, updated_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- model_row: one model's number, and whether it is deleted
select id, deleted_at from model where model_id = ?;

-- models: some models
select id, model_id, experiment, name, model_type, source_run_id, status, status_message, created_at, updated_at
from model where id in (?*);

-- set_model_status: how far a model is
update model set status = ?, updated_at = ? where id = ?;

-- touch_model: something of it changed
update model set updated_at = ? where id = ?;

-- delete_model: softly; its rows stay
update model set deleted_at = ?, updated_at = ? where id = ? and deleted_at is null;

-- model_params_of: of one model
select name, value from model_param where model = ?;

-- insert_model_param: set once
insert into model_param (model, name, value) values (?, ?, ?);

-- set_model_tag: overwrite
insert into model_tag (model, name, value) values (?, ?, ?)
on conflict (model, name) do update set value = excluded.value;

-- delete_model_tag: remove
delete from model_tag where model = ? and name = ?;

-- insert_model_metric: something measured; the same again changes nothing
insert into model_metric (model, name, timestamp, step, run_id, value, dataset_name, dataset_digest)
values (?, ?, ?, ?, ?, ?, ?, ?)
on conflict (model, name, timestamp, step, run_id, value, dataset_name, dataset_digest) do nothing;

-- model_params: of some models
select model, name, value from model_param where model in (?*) order by model, name;

-- model_tags: of some models
select model, name, value from model_tag where model in (?*) order by model, name;

-- model_metrics: of some models
select model, name, timestamp, step, run_id, value, dataset_name, dataset_digest
from model_metric where model in (?*) order by model, name, timestamp, step;

-- registrations: versions that were registered from some models
select x.id, m.name, v.version from model x
join model_version v on v.model_id = x.model_id
join registered_model m on m.id = v.registered_model
where x.id in (?*) order by x.id, v.id;

-- model_numbers: which of some model ids exist
select model_id, id from model where deleted_at is null and model_id in (?*);

-- last_points_of_runs: every series' last point
select run, key, last_step, last_timestamp, last from series where run in (?*);

-- experiments_by_numbers: some experiments
select number, experiment_id, name, description, lifecycle, created_at, updated_at, artifact_location
from experiment where number in (?*);

-- registered_model_by_name: its number
select id from registered_model where name = ?;

-- next_registered_model: the number of the next one
select coalesce(max(id), 0) + 1 from registered_model;

-- insert_registered_model: a new one, without versions
insert into registered_model (id, name, description, next_version, created_at, updated_at)
values (?, ?, ?, 1, ?, ?);

-- rename_registered_model: its versions know it by number
update registered_model set name = ?, updated_at = ? where id = ?;

-- describe_registered_model: in words
update registered_model set description = ?, updated_at = ? where id = ?;

-- touch_registered_model: something of it changed
update registered_model set updated_at = ? where id = ?;

-- delete_registered_model: after everything that belongs to it
delete from registered_model where id = ?;

-- set_registered_model_tag: overwrite
insert into registered_model_tag (registered_model, name, value) values (?, ?, ?)
on conflict (registered_model, name) do update set value = excluded.value;

-- delete_registered_model_tag: remove
delete from registered_model_tag where registered_model = ? and name = ?;

-- delete_registered_model_tags: of one model
delete from registered_model_tag where registered_model = ?;

-- set_model_alias: move it to a version
insert into model_alias (registered_model, name, version) values (?, ?, ?)
on conflict (registered_model, name) do update set version = excluded.version;

-- delete_model_alias: remove
delete from model_alias where registered_model = ? and name = ?;

-- delete_aliases: of one model
delete from model_alias where registered_model = ?;

-- delete_aliases_of_version: those that name it
delete from model_alias where registered_model = ? and version = ?;

-- next_version: take the number of a model's next version
update registered_model set next_version = next_version + 1, updated_at = ? where id = ? returning next_version - 1;

-- next_model_version: the number of the next row
select coalesce(max(id), 0) + 1 from model_version;

-- insert_model_version: a new version
insert into model_version (id, registered_model, version, description, user_id, stage, source, location,
                           run_id, run_link, model_id, created_at, updated_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- model_version_row: one version's number
select id from model_version where registered_model = ? and version = ?;

-- describe_model_version: in words
update model_version set description = ?, updated_at = ? where id = ?;

-- touch_versions: of one model
update model_version set updated_at = ? where registered_model = ?;

-- set_version_stage: move one
update model_version set stage = ?, updated_at = ? where id = ?;

-- archive_stage: move the others of a stage
update model_version set stage = ?, updated_at = ? where registered_model = ? and stage = ? and id <> ?;

-- delete_model_version: one
delete from model_version where id = ?;

-- delete_versions: of one model
delete from model_version where registered_model = ?;

-- set_model_version_tag: overwrite
insert into model_version_tag (model_version, name, value) values (?, ?, ?)
on conflict (model_version, name) do update set value = excluded.value;

-- delete_model_version_tag: remove
delete from model_version_tag where model_version = ? and name = ?;

-- delete_model_version_tags: of one version
delete from model_version_tag where model_version = ?;

-- delete_tags_of_versions: of one model
delete from model_version_tag where model_version in (select id from model_version where registered_model = ?);

-- registered_models: some
select id, name, description, created_at, updated_at from registered_model where id in (?*);

-- registered_model_tags: of some
select registered_model, name, value from registered_model_tag where registered_model in (?*)
order by registered_model, name;

-- aliases_of_models: of some
select registered_model, name, version from model_alias where registered_model in (?*)
order by registered_model, name;

-- latest_versions: the newest of each stage
select registered_model, stage, max(version) from model_version where registered_model in (?*)
group by registered_model, stage order by registered_model, stage;

-- versions_by_numbers: of one model
select version, id from model_version where registered_model = ? and version in (?*);

-- model_versions: some
select v.id, m.name, v.version, v.description, v.user_id, v.stage, v.source, v.location, v.run_id, v.run_link,
       v.model_id, v.created_at, v.updated_at
from model_version v join registered_model m on m.id = v.registered_model where v.id in (?*);

-- model_version_tags: of some
select model_version, name, value from model_version_tag where model_version in (?*)
order by model_version, name;

-- aliases_of_versions: of some
select v.id, a.name from model_version v
join model_alias a on a.registered_model = v.registered_model and a.version = v.version
where v.id in (?*) order by v.id, a.name;

-- version_by_alias: the version that an alias names
select v.id from model_alias a
join model_version v on v.registered_model = a.registered_model and v.version = a.version
where a.registered_model = ? and a.name = ?;

-- tag_value: one tag of a run
select value from tag where key = ? and run = ?;

-- note: what is known of the tenant in words
select value from note where name = ?;

-- set_note: overwrite
insert into note (name, value) values (?, ?) on conflict (name) do update set value = excluded.value;

-- contents: what of a tenant stands in the way of its removal; Default is in every tenant
select (select count(*) from experiment where number <> 0), (select count(*) from run),
       (select count(*) from model), (select count(*) from registered_model);
