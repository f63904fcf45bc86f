//! Calls of add-ons, as Python takes and answers them.

use penstock_rules::addon::Verdict;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// The calls of one loaded add-on.
#[pyclass(frozen, module = "penstock._native")]
pub(crate) struct Calls(pub(crate) Arc<penstock_proxy::Calls>);

/// One call.
#[pyclass(frozen, module = "penstock._native")]
pub(crate) struct Call {
    /// Name of the function.
    #[pyo3(get)]
    hook: &'static str,
    /// The request, as JSON text.
    #[pyo3(get)]
    document: String,
    call: Mutex<Option<penstock_proxy::Call>>,
}

#[pymethods]
impl Calls {
    /// Wait for calls, and take up to `most` of them; `None` when there will be no more.
    fn take(&self, py: Python<'_>, most: usize) -> Option<Vec<Call>> {
        let taken = py.detach(|| self.0.take(most))?;
        let call = |call: penstock_proxy::Call| Call {
            hook: call.hook(),
            document: call.document().to_owned(),
            call: Mutex::new(Some(call)),
        };
        Some(taken.into_iter().map(call).collect())
    }
}

#[pymethods]
impl Call {
    /// Seconds that somebody will wait for the answer.
    fn left(&self) -> f64 {
        let call = self.call.lock().unwrap_or_else(PoisonError::into_inner);
        call.as_ref().map_or(0.0, |call| call.left().as_secs_f64())
    }

    /// Give the verdict. Raises `ValueError` for one that may not be; the call is then still open.
    fn answer(&self, verdict: &str, body: &[u8]) -> PyResult<bool> {
        let verdict = Verdict::read(verdict, body.to_vec()).map_err(PyValueError::new_err)?;
        Ok(self.take().is_some_and(|call| call.answer(verdict)))
    }

    /// There is no verdict.
    fn fail(&self) {
        drop(self.take());
    }

    /// There is none in time.
    fn expire(&self) {
        if let Some(call) = self.take() {
            call.expire();
        }
    }
}

impl Call {
    fn take(&self) -> Option<penstock_proxy::Call> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
