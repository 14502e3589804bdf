"""What the command line does, as functions; `import tb` offers them.

Here: one function for each command.
Not here: `tb split`, and the commands of `tb data` other than `advise`. They only read shards, so
their functions are in `shards`.

Keyword arguments have the names of the command line's options, except `settings` (`--set`) and
`every_s` (`--every`). `shards` is a folder of finished shards or its URL. `out` is what a function
writes; for training and measuring, it is the work folder. `preset` is a preset's name or YAML file.
`settings` are assignments as `--set` takes them: ["labels.percent=5"]. The work folder remembers
both, so `preset` and `settings` are needed once. Every function raises `InputError`, with one
line that says what to do, where something that the caller gave is missing or wrong.

Heavy modules are imported inside the functions, because `tb --help` must not wait for them.
"""

from tb.api.answers import load_classifier as load_classifier
from tb.api.answers import predict as predict
from tb.api.inspection import compare_runs as compare_runs
from tb.api.inspection import compare_settings as compare_settings
from tb.api.inspection import doctor as doctor
from tb.api.inspection import draw_frames as draw_frames
from tb.api.inspection import find_runs as find_runs
from tb.api.inspection import inspect_all_teachers as inspect_all_teachers
from tb.api.inspection import next_stage as next_stage
from tb.api.inspection import plot_runs as plot_runs
from tb.api.inspection import preset_names as preset_names
from tb.api.inspection import read_run as read_run
from tb.api.inspection import show_settings as show_settings
from tb.api.inspection import views as views
from tb.api.whole_runs import reproduce as reproduce
from tb.api.whole_runs import reproduce_cost as reproduce_cost
from tb.api.whole_runs import run_demo as run_demo
from tb.api.work_folder import ALL as ALL
from tb.api.work_folder import advise as advise
from tb.api.work_folder import evaluate as evaluate
from tb.api.work_folder import export as export
from tb.api.work_folder import inspect_teachers as inspect_teachers
from tb.api.work_folder import knn_probe as knn_probe
from tb.api.work_folder import linear_probe as linear_probe
from tb.api.work_folder import report as report
from tb.api.work_folder import retrieve as retrieve
from tb.api.work_folder import shard as shard
from tb.api.work_folder import train as train
