//! The border to Python: decode, call, encode. Nothing is decided here; documents cross as JSON text (`_native.pyi`).

mod addon;

use addon::{Call, Calls};
use penstock_plan::Plan;
use penstock_proxy::Patient;
use penstock_rules::fault::Fault;
use penstock_rules::route::explain::Request;
use pyo3::create_exception;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use serde_json::json;
use std::time::Duration;

/// Of the data plane alone; Python keeps its own.
#[global_allocator]
static ALLOCATOR: Patient<mimalloc::MiMalloc> = Patient(mimalloc::MiMalloc);

/// Give what this thread freed back to the system: the allocator does so by itself only while a thread goes on working.
fn release() {
    // SAFETY: it touches nothing but the allocator's own state, and that of the calling thread, which the allocator sets up where it is
    // missing; it may be called at any time (libmimalloc-sys, `mi_collect`).
    unsafe { libmimalloc_sys::mi_collect(true) }
}

create_exception!(_native, Refused, PyValueError, "A plan that cannot run: a JSON list of faults.");

/// The workers and what they run.
#[pyclass(frozen, module = "penstock._native")]
struct Engine(penstock_proxy::Engine);

#[pymethods]
impl Engine {
    #[new]
    fn new() -> Engine {
        Engine(penstock_proxy::Engine::new(release))
    }

    /// Run this plan from now on.
    fn apply(&self, py: Python<'_>, plan: &str) -> PyResult<String> {
        py.detach(|| {
            let applied = self.0.apply(read_plan(plan)?).map_err(refused)?;
            Ok(json!({
                "version": applied.version,
                "warnings": applied.warnings,
                "doubts": applied.doubts,
                "addresses": applied.addresses,
            })
            .to_string())
        })
    }

    /// Which way a request would take in the running plan, and why not another.
    fn explain(&self, py: Python<'_>, request: &str) -> PyResult<String> {
        py.detach(|| match self.0.explain(&read_request(request)?) {
            Some(explained) => write_explanation(explained),
            None => Err(PyRuntimeError::new_err("no plan is running")),
        })
    }

    /// Counters and states, read once.
    fn stats(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.stats())
    }

    /// The calls of the add-on that was loaded under this id; `None` if the running plan has it not.
    fn addon_calls(&self, addon: u64) -> Option<Calls> {
        self.0.addon_calls(addon).map(Calls)
    }

    /// What happened since the last call, waiting up to `wait` seconds for the first.
    fn events(&self, py: Python<'_>, wait: f64) -> Vec<String> {
        py.detach(|| self.0.events(seconds(wait)))
    }

    /// Accept nothing more, let what is under way finish for up to `wait` seconds.
    fn drain(&self, py: Python<'_>, wait: f64) -> bool {
        py.detach(|| self.0.drain(seconds(wait)))
    }

    /// Close everything and end the threads.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }

    /// Change what people decide about one endpoint: `{"admin": "draining"}` or `{"weight": 3}`.
    fn order(&self, py: Python<'_>, upstream: &str, address: &str, order: &str) -> PyResult<()> {
        py.detach(|| {
            let order = serde_json::from_str(order).map_err(|error| PyValueError::new_err(error.to_string()))?;
            self.0.order(upstream, address, order).map_err(PyValueError::new_err)
        })
    }

    /// Put one route, or all there are and will come, into maintenance or back into service.
    #[pyo3(signature = (route, on))]
    fn maintain(&self, py: Python<'_>, route: Option<&str>, on: bool) -> PyResult<()> {
        py.detach(|| self.0.maintain(route, on).map_err(PyValueError::new_err))
    }

    /// Ask about the affinity table of an upstream, or have it forget.
    fn affinity(&self, py: Python<'_>, upstream: &str, query: &str) -> PyResult<String> {
        py.detach(|| {
            let query = serde_json::from_str(query).map_err(|error| PyValueError::new_err(error.to_string()))?;
            self.0.affinity(upstream, &query).map_err(PyValueError::new_err)
        })
    }

    /// What listeners have captured.
    #[pyo3(signature = (listener, query))]
    fn captures(&self, py: Python<'_>, listener: Option<&str>, query: &str) -> PyResult<String> {
        py.detach(|| {
            let query = serde_json::from_str(query).map_err(|error| PyValueError::new_err(error.to_string()))?;
            self.0.captures(listener, query).map_err(PyValueError::new_err)
        })
    }

    /// Take no client of a forward proxy to these addresses.
    fn withhold(&self, addresses: Vec<String>) -> PyResult<()> {
        let read = |text: &String| text.parse().map_err(|_| PyValueError::new_err(format!("{text} is no address")));
        self.0.withhold(addresses.iter().map(read).collect::<PyResult<_>>()?);
        Ok(())
    }

    /// Open the access log's file anew.
    fn reopen_logs(&self, py: Python<'_>) {
        py.detach(|| self.0.reopen_logs());
    }
}

/// The JSON schema of a plan.
#[pyfunction]
fn plan_schema() -> String {
    serde_json::to_string(&penstock_plan::schema()).unwrap_or_default()
}

/// What a list of a plan holds.
#[pyfunction]
fn read_list(py: Python<'_>, plan: &str) -> PyResult<String> {
    py.detach(|| {
        let plan = serde_json::from_str(plan).map_err(|error| PyValueError::new_err(error.to_string()))?;
        penstock_proxy::read_list(&plan).map_err(PyValueError::new_err)
    })
}

/// A plan with everything built that needs no socket and no name.
#[pyclass(frozen, module = "penstock._native")]
struct CheckedPlan(penstock_proxy::CheckedPlan);

#[pymethods]
impl CheckedPlan {
    #[new]
    fn new(py: Python<'_>, plan: &str) -> PyResult<CheckedPlan> {
        py.detach(|| penstock_proxy::CheckedPlan::build(read_plan(plan)?).map(CheckedPlan).map_err(refused))
    }

    /// What is doubtful, but stops nothing.
    fn doubts(&self, py: Python<'_>) -> String {
        py.detach(|| serde_json::to_string(&self.0.doubts()).unwrap_or_default())
    }

    /// Which way a request would take, and why not another.
    fn explain(&self, py: Python<'_>, request: &str) -> PyResult<String> {
        py.detach(|| write_explanation(self.0.explain(&read_request(request)?)))
    }
}

/// The native half of Penstock.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("Refused", module.py().get_type::<Refused>())?;
    module.add_class::<CheckedPlan>()?;
    module.add_class::<Engine>()?;
    module.add_class::<Calls>()?;
    module.add_class::<Call>()?;
    module.add_function(wrap_pyfunction!(plan_schema, module)?)?;
    module.add_function(wrap_pyfunction!(read_list, module)?)?;
    Ok(())
}

fn read_plan(text: &str) -> PyResult<Plan> {
    serde_json::from_str(text).map_err(|error| refused(vec![Fault::new("", format!("this is no plan: {error}"))]))
}

fn read_request(text: &str) -> PyResult<Request> {
    serde_json::from_str(text).map_err(|error| PyValueError::new_err(format!("this is no request: {error}")))
}

fn write_explanation(explained: Result<impl serde::Serialize, Fault>) -> PyResult<String> {
    let explained = explained.map_err(|fault| PyValueError::new_err(fault.to_string()))?;
    serde_json::to_string(&explained).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

fn refused(faults: Vec<Fault>) -> PyErr {
    Refused::new_err(serde_json::to_string(&faults).unwrap_or_default())
}

/// Python's seconds; what is no time at all counts as none.
fn seconds(wait: f64) -> Duration {
    Duration::try_from_secs_f64(wait).unwrap_or(if wait > 0.0 { Duration::MAX } else { Duration::ZERO })
}
