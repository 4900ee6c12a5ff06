-- purged: whether a run was deleted for good
select run_id from purged where run_id in (?*);

-- any_purged: whether any run was
select 1 from purged limit 1;

-- insert_purged: what stands in the place of a run
insert into purged (run_id, run, purged_at) values (?, ?, ?);

-- delete_run_row: a run goes out of sight
delete from run where id = ?;

-- next_purged_run: a purged run of which rows are left
select run_id, run from purged where run is not null order by run limit 1;

-- finish_purged: nothing is left of it
update purged set run = null where run = ?;

-- unfinished_purges: the numbers of runs of which rows are left
select run from purged where run is not null;

-- insert_purging: an experiment is to be deleted for good
insert into purging (experiment) values (?) on conflict (experiment) do nothing;

-- is_purging: whether an experiment is being deleted for good
select 1 from purging where experiment = ?;

-- next_purging: an experiment that is not gone yet
select experiment from purging order by experiment limit 1;

-- delete_purging: it is gone
delete from purging where experiment = ?;

-- some_runs: of an experiment
select run_id, id from run where experiment = ? limit ?;

-- some_models: of an experiment
select id, model_id from model where experiment = ? limit ?;

-- expired_runs: deleted before a time
select run_id, id from run where deleted_at is not null and deleted_at < ? limit ?;

-- expired_experiments: deleted before a time; not Default, and none of which a run was restored or deleted later
select experiment_id from experiment e
where lifecycle = 'deleted' and updated_at < ? and number > 0
and not exists (select 1 from run r where r.experiment = e.number and (r.lifecycle = 'active' or r.deleted_at >= ?));

-- expired_models: deleted before a time
select id, model_id from model where deleted_at is not null and deleted_at < ?;

-- purge_experiment_tags: all of them
delete from experiment_tag where experiment = ?;

-- purge_experiment_datasets: all of them
delete from dataset where experiment = ?;

-- purge_experiment: itself
delete from experiment where number = ?;

-- keep_experiment_number: the greatest number that was purged
insert into meta (name, value) values (?, ?)
on conflict (name) do update set value = excluded.value where excluded.value > meta.value;

-- journal_lengths: how large a run's oldest rows are
select id, length(payload) from journal_of where run = ? order by id limit ?;

-- chunk_lengths: how large some of a run's chunks are
select id, length(summary) + length(data) from chunk where run = ? limit ?;

-- console_lengths: how large a run's oldest blocks of lines are
select first_line, length(payload) from console where run = ? order by first_line limit ?;

-- purge_journal: rows of one run
delete from journal where run = ? and id in (?*);

-- purge_chunks: of one run
delete from chunk where run = ? and id in (?*);

-- purge_console: blocks of one run
delete from console where run = ? and first_line in (?*);

-- purge_journal_list: what a flush listed of rows that were gone by then
delete from journal_run where run = ?;

-- purge_series: some of a run's
delete from series where id in (select id from series where run = ? limit ?);

-- purge_params: some of a run's
delete from param where id in (select id from param where run = ? limit ?);

-- purge_tags: some of a run's
delete from tag where id in (select id from tag where run = ? limit ?);

-- purge_writers: all of a run's
delete from writer where run = ?;

-- purge_dataset_use_tags: all of a run's
delete from dataset_use_tag where run = ?;

-- purge_datasets: those that no other run used
delete from dataset where id in (select dataset from dataset_use where run = ?)
and not exists (select 1 from dataset_use u where u.dataset = dataset.id and u.run <> ?);

-- purge_dataset_uses: all of a run's
delete from dataset_use where run = ?;

-- purge_model_uses: all of a run's
delete from model_use where run = ?;

-- purge_model_params: all of a model's
delete from model_param where model = ?;

-- purge_model_tags: all of a model's
delete from model_tag where model = ?;

-- purge_model_metrics: all of a model's
delete from model_metric where model = ?;

-- purge_model: itself
delete from model where id = ?;

-- models_by_any_id: which of some models exist, deleted ones too
select model_id from model where model_id in (?*);

-- unfinished_among: which of some runs are not wholly removed yet
select run_id from purged where run is not null and run_id in (?*);

-- all_params: for verify
select key, value, number from param where run = ?;
