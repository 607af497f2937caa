//! The shard that a scheduler's variables name.

use crate::Shard;

/// Slurm's array jobs.
const SLURM_INDEX: &str = "SLURM_ARRAY_TASK_ID";
const SLURM_COUNT: &str = "SLURM_ARRAY_TASK_COUNT";
const SLURM_FIRST: &str = "SLURM_ARRAY_TASK_MIN";
const SLURM_STEP: &str = "SLURM_ARRAY_TASK_STEP";
/// Kubernetes' Indexed Jobs set the index; their manifest sets the count.
const JOB_INDEX: &str = "JOB_COMPLETION_INDEX";
const JOB_COUNT: &str = "JOB_PARALLELISM";

/// Why the environment names no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArrayTaskError {
    /// No scheduler's variables.
    #[error(
        "expected {SLURM_INDEX} and {SLURM_COUNT} (a Slurm array job) or {JOB_INDEX} and {JOB_COUNT} (a Kubernetes \
         Indexed Job) in the environment, got neither; run it in such a job, or name the shard as I/N"
    )]
    Unset,
    /// Variables of two schedulers.
    #[error(
        "expected the variables of one scheduler, got {SLURM_INDEX} and {JOB_INDEX}; unset those that don't \
         count, or name the shard as I/N"
    )]
    Ambiguous,
    /// One variable without another.
    #[error(
        "{missing}: expected a number in the environment beside {present}, got none; {}",
        how_to_set(missing)
    )]
    Missing {
        /// The variable that is not set.
        missing: &'static str,
        /// The one that is.
        present: &'static str,
    },
    /// A variable that is no number, or zero where it counts.
    #[error("{variable}: expected {expected}, got {got:?}")]
    Value {
        /// The variable.
        variable: &'static str,
        /// Valid values.
        expected: &'static str,
        /// The value.
        got: String,
    },
    /// An index that is not one of the array's.
    #[error(
        "{variable}: expected {first} to {last} in steps of {step} for {count} tasks, got {got}; {}",
        how_to_count(variable)
    )]
    Index {
        /// The variable.
        variable: &'static str,
        /// The first index.
        first: u64,
        /// The last index.
        last: u64,
        /// The difference of two indices.
        step: u64,
        /// The number of tasks.
        count: u64,
        /// The index.
        got: u64,
    },
}

fn how_to_set(missing: &str) -> &'static str {
    if missing == JOB_COUNT {
        "set it in the job's manifest to its completions"
    } else {
        "run it in an array job, or name the shard as I/N"
    }
}

fn how_to_count(variable: &str) -> &'static str {
    if variable == JOB_INDEX {
        "JOB_PARALLELISM must be the job's completions"
    } else {
        "submit the whole array (finished jobs are skipped when it resumes), or name the shard as I/N"
    }
}

impl Shard {
    /// The shard of this task of an array: of Slurm (`SLURM_ARRAY_TASK_ID` of
    /// `SLURM_ARRAY_TASK_COUNT`, counted from `_MIN` by `_STEP`) or of a Kubernetes Indexed Job
    /// (`JOB_COMPLETION_INDEX` of `JOB_PARALLELISM`, from 0).
    ///
    /// `variable` is the environment, for instance `|name| std::env::var(name).ok()`. Empty
    /// variables are unset.
    ///
    /// ```
    /// use editmgt_store::Shard;
    ///
    /// let environment = [("JOB_COMPLETION_INDEX", "2"), ("JOB_PARALLELISM", "8")];
    /// let shard = Shard::of_array_task(|name| {
    ///     environment.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
    /// })?;
    /// assert_eq!(shard.to_string(), "3/8");
    /// # Ok::<(), editmgt_store::ArrayTaskError>(())
    /// ```
    ///
    /// # Errors
    /// [`ArrayTaskError`]: variables that are missing, contradict each other or are out of range.
    pub fn of_array_task(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ArrayTaskError> {
        let set = |name: &'static str| variable(name).filter(|value| !value.trim().is_empty());
        let number = |name: &'static str| {
            let Some(text) = set(name) else { return Ok(None) };
            let value = text.trim().parse::<u64>().map_err(|_| ArrayTaskError::Value {
                variable: name,
                expected: "a whole number",
                got: text,
            })?;
            Ok::<_, ArrayTaskError>(Some(value))
        };
        let of_slurm = set(SLURM_INDEX).is_some() || set(SLURM_COUNT).is_some();
        let of_job = set(JOB_INDEX).is_some() || set(JOB_COUNT).is_some();
        let (index, count) = match (of_slurm, of_job) {
            (true, true) => return Err(ArrayTaskError::Ambiguous),
            (true, false) => (SLURM_INDEX, SLURM_COUNT),
            (false, true) => (JOB_INDEX, JOB_COUNT),
            (false, false) => return Err(ArrayTaskError::Unset),
        };
        let both = (number(index)?, number(count)?);
        let (id, tasks) = match both {
            (Some(id), Some(tasks)) => (id, tasks),
            (None, _) => return Err(ArrayTaskError::Missing { missing: index, present: count }),
            (_, None) => return Err(ArrayTaskError::Missing { missing: count, present: index }),
        };
        let (first, step) = if of_slurm {
            // Slurm sets both; without them the array counts from 0.
            (number(SLURM_FIRST)?.unwrap_or(0), number(SLURM_STEP)?.unwrap_or(1))
        } else {
            (0, 1)
        };
        let positive = |variable, value: u64| {
            let expected = "1 or more";
            let zero = ArrayTaskError::Value { variable, expected, got: value.to_string() };
            if value == 0 { Err(zero) } else { Ok(value) }
        };
        let (tasks, step) = (positive(count, tasks)?, positive(SLURM_STEP, step)?);
        let place = id.checked_sub(first).filter(|past| past % step == 0).map(|past| past / step);
        let place = place.filter(|&place| place < tasks);
        let place = place.ok_or_else(|| ArrayTaskError::Index {
            variable: index,
            first,
            last: first.saturating_add(step.saturating_mul(tasks - 1)),
            step,
            count: tasks,
            got: id,
        })?;
        Ok(Self::new(place + 1, tasks).expect("the place is below the number of tasks"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(environment: &[(&str, &str)]) -> Result<String, ArrayTaskError> {
        let variable = |name: &str| {
            let found = environment.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Shard::of_array_task(variable).map(|shard| shard.to_string())
    }

    fn slurm(id: &str, count: &str, first: &str, step: &str) -> Result<String, ArrayTaskError> {
        shard(&[(SLURM_INDEX, id), (SLURM_COUNT, count), (SLURM_FIRST, first), (SLURM_STEP, step)])
    }

    #[test]
    fn tasks_of_an_array_are_a_partition() {
        for (id, count, first, step, expected) in [
            ("0", "4", "0", "1", "1/4"),
            ("3", "4", "0", "1", "4/4"),
            ("1", "4", "1", "1", "1/4"),
            ("4", "4", "1", "1", "4/4"),
            // --array=10-40:10
            ("30", "4", "10", "10", "3/4"),
            ("7", "1", "7", "1", "1/1"),
        ] {
            assert_eq!(slurm(id, count, first, step).unwrap(), expected);
        }
        assert_eq!(shard(&[(SLURM_INDEX, "2"), (SLURM_COUNT, "8")]).unwrap(), "3/8");
        assert_eq!(shard(&[(JOB_INDEX, "0"), (JOB_COUNT, "8")]).unwrap(), "1/8");
        // Another scheduler's empty variable.
        let both = [(JOB_INDEX, "7"), (JOB_COUNT, "8"), (SLURM_INDEX, " ")];
        assert_eq!(shard(&both).unwrap(), "8/8");
    }

    #[test]
    fn nonsense_is_refused_by_the_name_of_its_variable() {
        let errors = [
            (shard(&[]), "got neither"),
            (shard(&[(SLURM_INDEX, "")]), "got neither"),
            (shard(&[(SLURM_INDEX, "1"), (JOB_INDEX, "1")]), "one scheduler"),
            (shard(&[(SLURM_INDEX, "1")]), "SLURM_ARRAY_TASK_COUNT: expected a number"),
            (shard(&[(SLURM_COUNT, "1")]), "SLURM_ARRAY_TASK_ID: expected a number"),
            (shard(&[(JOB_INDEX, "1")]), "set it in the job's manifest to its completions"),
            (
                slurm("one", "4", "0", "1"),
                "SLURM_ARRAY_TASK_ID: expected a whole number, got \"one\"",
            ),
            (slurm("-1", "4", "0", "1"), "got \"-1\""),
            (slurm("0", "0", "0", "1"), "SLURM_ARRAY_TASK_COUNT: expected 1 or more, got \"0\""),
            (slurm("0", "4", "0", "0"), "SLURM_ARRAY_TASK_STEP: expected 1 or more"),
            (slurm("4", "4", "0", "1"), "expected 0 to 3 in steps of 1 for 4 tasks, got 4"),
            (slurm("0", "4", "1", "1"), "expected 1 to 4 in steps of 1"),
            (slurm("15", "4", "10", "10"), "expected 10 to 40 in steps of 10"),
            // --array=3,7
            (slurm("7", "2", "3", "1"), "submit the whole array"),
            (shard(&[(JOB_INDEX, "4"), (JOB_COUNT, "4")]), "must be the job's completions"),
            (slurm("0", "18446744073709551615", "1", "18446744073709551615"), "got 0"),
        ];
        for (error, named) in errors {
            let message = error.unwrap_err().to_string();
            assert!(message.contains(named), "{message}: {named}");
        }
    }
}
