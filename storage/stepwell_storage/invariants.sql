-- What must hold between the rows of a tenant, for verify.  Each statement finds what breaks it:
-- one row a finding, of which the first columns are shown in the text that follows the name.
-- Rows of runs that are being purged belong to nobody for a while, which is no finding.

-- orphans_of_chunk: rows of chunk belong to run row {0}, which does not exist
select distinct run from chunk
where run not in (select id from run) and run not in (select run from purged where run is not null);

-- orphans_of_journal: rows of journal belong to run row {0}, which does not exist
select distinct run from journal
where run not in (select id from run) and run not in (select run from purged where run is not null);

-- unlisted_journal: journal row {0} of run row {1} is counted and not in the list of its run
select id, run from journal j
where id <= coalesce((select value from meta where name = 'counted'), 0)
and not exists (select 1 from journal_run x where x.run = j.run and x.journal = j.id);

-- listed_journal: the list of run row {0} names journal row {1}, which it does not have
select run, journal from journal_run x
where not exists (select 1 from journal j where j.id = x.journal and j.run = x.run)
and run not in (select run from purged where run is not null);

-- listed_early: the list of run row {0} names journal row {1}, which is not counted yet
select run, journal from journal_run where journal > coalesce((select value from meta where name = 'counted'), 0);

-- orphans_of_series: rows of series belong to run row {0}, which does not exist
select distinct run from series
where run not in (select id from run) and run not in (select run from purged where run is not null);

-- orphans_of_param: rows of param belong to run row {0}, which does not exist
select distinct run from param
where run not in (select id from run) and run not in (select run from purged where run is not null);

-- orphans_of_tag: rows of tag belong to run row {0}, which does not exist
select distinct run from tag
where run not in (select id from run) and run not in (select run from purged where run is not null);

-- orphans_of_fresh_param: rows of fresh_param belong to run row {0}, which does not exist
select distinct run from fresh_param where run not in (select id from run);

-- orphans_of_fresh_tag: rows of fresh_tag belong to run row {0}, which does not exist
select distinct run from fresh_tag where run not in (select id from run);

-- nameless_fresh_param: rows of fresh_param have the key number {0}, which has no name
select distinct key from fresh_param where key not in (select id from name);

-- nameless_fresh_tag: rows of fresh_tag have the key number {0}, which has no name
select distinct key from fresh_tag where key not in (select id from name);

-- filed_param: parameter {0} of run row {1} is in its place and on its way there
select f.key, f.run from fresh_param f where exists (select 1 from param p where p.id = f.key * 68719476736 + f.run);

-- filed_tag: tag {0} of run row {1} is in its place and on its way there
select f.key, f.run from fresh_tag f where exists (select 1 from tag t where t.id = f.key * 68719476736 + f.run);

-- orphans_of_console: rows of console belong to run row {0}, which does not exist
select distinct run from console
where run not in (select id from run) and run not in (select run from purged where run is not null);

-- orphans_of_writer: rows of writer belong to run row {0}, which does not exist
select distinct run from writer
where run not in (select id from run) and run not in (select run from purged where run is not null);

-- orphans_of_dataset_use: rows of dataset_use belong to run row {0}, which does not exist
select distinct run from dataset_use
where run not in (select id from run) and run not in (select run from purged where run is not null);

-- orphans_of_dataset_use_tag: rows of dataset_use_tag belong to run row {0}, which does not exist
select distinct run from dataset_use_tag
where run not in (select id from run) and run not in (select run from purged where run is not null);

-- orphans_of_model_use: rows of model_use belong to run row {0}, which does not exist
select distinct run from model_use
where run not in (select id from run) and run not in (select run from purged where run is not null);

-- nameless_chunk: rows of chunk have the key number {0}, which has no name
select distinct key from chunk where key not in (select id from name);

-- nameless_series: rows of series have the key number {0}, which has no name
select distinct key from series where key not in (select id from name);

-- nameless_param: rows of param have the key number {0}, which has no name
select distinct key from param where key not in (select id from name);

-- nameless_tag: rows of tag have the key number {0}, which has no name
select distinct key from tag where key not in (select id from name);

-- misplaced_series: row {0} of series lies where nobody looks for key {1} of run row {2}
select id, key, run from series where id <> key * 68719476736 + run;

-- misplaced_param: row {0} of param lies where nobody looks for key {1} of run row {2}
select id, key, run from param where id <> key * 68719476736 + run;

-- misplaced_tag: row {0} of tag lies where nobody looks for key {1} of run row {2}
select id, key, run from tag where id <> key * 68719476736 + run;

-- homeless_run: run {0} belongs to experiment {1}, which does not exist
select run_id, experiment from run where experiment not in (select number from experiment);

-- homeless_experiment_tag: experiment_tag {0} belongs to experiment {1}, which does not exist
select name, experiment from experiment_tag where experiment not in (select number from experiment);

-- homeless_dataset: dataset {0} belongs to experiment {1}, which does not exist
select name, experiment from dataset where experiment not in (select number from experiment);

-- homeless_model: model {0} belongs to experiment {1}, which does not exist
select model_id, experiment from model where experiment not in (select number from experiment);

-- unknown_dataset: run row {0} uses dataset row {1}, which does not exist
select run, dataset from dataset_use where dataset not in (select id from dataset)
and run not in (select run from purged where run is not null);

-- unused_dataset_tag: a tag says how run row {0} uses dataset row {1}, which it does not use
select distinct t.run, t.dataset from dataset_use_tag t
where not exists (select 1 from dataset_use u where u.run = t.run and u.dataset = t.dataset);

-- orphans_of_model_param: rows of model_param belong to model row {0}, which does not exist
select distinct model from model_param where model not in (select id from model);

-- orphans_of_model_tag: rows of model_tag belong to model row {0}, which does not exist
select distinct model from model_tag where model not in (select id from model);

-- orphans_of_model_metric: rows of model_metric belong to model row {0}, which does not exist
select distinct model from model_metric where model not in (select id from model);

-- lifecycle_of_run: run {0} is {1} and was deleted at {2}
select run_id, lifecycle, deleted_at from run
where not (lifecycle = 'active' and deleted_at is null or lifecycle = 'deleted' and deleted_at is not null);

-- status_of_run: run {0} has the status {1}, which there is not
select run_id, status from run where status not in ('running', 'finished', 'failed', 'killed', 'scheduled');

-- lifecycle_of_experiment: experiment {0} is {1}, which there is not
select name, lifecycle from experiment where lifecycle not in ('active', 'deleted');

-- no_default: there is no experiment 0
select 1 where not exists (select 1 from experiment where number = 0);

-- purged_twice: run {0} is there and was deleted for good
select run_id from purged where run_id in (select run_id from run);

-- purging_nothing: experiment {0} is being deleted for good and does not exist
select experiment from purging where experiment not in (select number from experiment);

-- counter_of_run: the next number of a run is {0}, and there is {1} already
select c.next, t.id from counter c,
(select max(id) as id from (select id from run union all select run from purged where run is not null) numbers) t
where c.name = 'run' and t.id >= c.next;

-- counted_too_far: journal rows up to {1} are said to be counted, and the next one is {0}
select c.next, m.value from counter c, meta m where c.name = 'journal' and m.name = 'counted' and m.value >= c.next;

-- counter_of_journal: the next number of a journal is {0}, and there is {1} already
select c.next, t.id from counter c, (select max(id) as id from journal) t where c.name = 'journal' and t.id >= c.next;

-- counter_of_chunk: the next number of a chunk is {0}, and there is {1} already
select c.next, t.id from counter c, (select max(id) as id from chunk) t where c.name = 'chunk' and t.id >= c.next;

-- counter_of_name: the next number of a name is {0}, and there is {1} already
select c.next, t.id from counter c, (select max(id) as id from name) t where c.name = 'name' and t.id >= c.next;

-- orphans_of_registered_model_tag: tags belong to registered model row {0}, which does not exist
select distinct registered_model from registered_model_tag
where registered_model not in (select id from registered_model);

-- orphans_of_model_version: version {1} belongs to registered model row {0}, which does not exist
select registered_model, version from model_version
where registered_model not in (select id from registered_model);

-- orphans_of_model_version_tag: tags belong to model version row {0}, which does not exist
select distinct model_version from model_version_tag where model_version not in (select id from model_version);

-- alias_of_nothing: the alias {1} of registered model row {0} names a version that does not exist
select a.registered_model, a.name from model_alias a
where not exists (select 1 from model_version v where v.registered_model = a.registered_model and v.version = a.version);

-- version_to_come: registered model {0} has a version {2} and would number the next one {1}
select m.name, m.next_version, max(v.version) from registered_model m
join model_version v on v.registered_model = m.id group by m.id, m.name, m.next_version having max(v.version) >= m.next_version;

-- stop_of_run: run {0} is said to have been asked to stop {1} times
select run_id, stop_requested from run where stop_requested not in (0, 1);

-- status_of_model: model {0} has the status {1}, which there is not
select model_id, status from model where status not in ('pending', 'ready', 'failed');

-- stage_of_version: version {1} of registered model row {0} has the stage {2}, which there is not
select registered_model, version, stage from model_version where stage not in ('None', 'Staging', 'Production', 'Archived');

-- kind_of_model_use: run row {0} uses model {1} as {2}, which there is not
select run, model_id, kind from model_use where kind not in ('input', 'output');

-- time_of_deletion: run {0} was deleted at {1} ms, which is before 2000 or after 2126
select run_id, deleted_at from run where deleted_at is not null and deleted_at not between 946684800000 and 4922899200000;

-- time_of_purge: run {0} was purged at {1} ms, which is before 2000 or after 2126
select run_id, purged_at from purged where purged_at not between 946684800000 and 4922899200000;
