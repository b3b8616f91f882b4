//! Which sinks an event goes to, and to which address at each.
//!
//! Routing is pure: the same event and routes give the same destinations. Every matching route fires; the same
//! address at the same sink is used once.

mod glob;
mod index;
mod template;

use std::{collections::HashMap, fmt, sync::Arc};

use smallvec::SmallVec;
use thiserror::Error;

use crate::{
    VerifiedEvent,
    json::PointerSet,
    sink::{Address, AddressKey},
};

pub use glob::{BadPattern, TypePattern};
pub use template::{BadTemplate, Template};

use index::TypeIndex;

/// A route as configured: which events, and where to.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name, for people.
    pub name: Arc<str>,
    /// The sources it listens to; all of them where empty.
    pub sources: Vec<Arc<str>>,
    /// The types it takes; all of them where empty. Entries with `!` exclude; a list of only those takes the rest.
    pub types: Vec<TypePattern>,
    /// Where its events go.
    pub to: Vec<Target>,
}

/// A sink and the templates of its address.
#[derive(Clone, Debug)]
pub struct Target {
    /// The sink's place in the list the router's user keeps.
    pub sink: usize,
    /// The sink type's keys with the route's templates, in the type's order.
    pub address: Vec<(AddressKey, Template)>,
}

/// Where one event goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The sink's place in the list the router's user keeps.
    pub sink: usize,
    /// The rendered and checked address.
    pub address: Address,
}

/// A destination that an event has no valid address for: never dropped in silence.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("route `{route}`: the {key} rendered for this event {why}")]
pub struct Unaddressable {
    /// The sink's place in the list the router's user keeps.
    pub sink: usize,
    /// The route.
    pub route: Arc<str>,
    /// The key of the address.
    pub key: &'static str,
    /// What is wrong with its value, as the end of a sentence.
    pub why: String,
}

/// What the router decided about one event.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Where it goes, in the order of the routes, each once.
    pub destinations: SmallVec<[Destination; 2]>,
    /// Where it should have gone.
    pub unaddressable: Vec<Unaddressable>,
}

impl Decision {
    /// Whether no route matched.
    pub fn is_ignored(&self) -> bool {
        self.destinations.is_empty() && self.unaddressable.is_empty()
    }
}

/// The compiled routes: per source one index over all type patterns, so that the cost of an event depends on its own
/// type and on how many routes match, not on how many there are.
pub struct Router {
    sources: HashMap<Arc<str>, TypeIndex>,
    routes: Vec<Compiled>,
    pointers: PointerSet,
}

struct Compiled {
    name: Arc<str>,
    to: Vec<CompiledTarget>,
}

enum CompiledTarget {
    /// No placeholder: rendered and checked once, shared by all events.
    Fixed(Destination),
    Rendered {
        sink: usize,
        keys: Vec<(AddressKey, template::Compiled)>,
    },
}

impl Target {
    /// The place that every event of it goes to, where no placeholder is in the way and its sink type's rules allow
    /// it.
    pub fn fixed_place(&self) -> Option<Address> {
        let places = self.address.iter().filter(|(key, _)| !key.decides_order());
        let part = |(key, template): &'_ (AddressKey, Template)| {
            (template.is_fixed() && key.check(template.text()).is_ok()).then(|| template.text().into())
        };
        let parts = places.map(|target| Some((&target.0, part(target)?))).collect::<Option<Vec<_>>>()?;
        Some(Address::new(parts))
    }
}

impl Router {
    /// Compiles the routes for these sources.
    ///
    /// # Errors
    /// A fixed address that its sink type's rules refuse.
    pub fn new(sources: impl IntoIterator<Item = Arc<str>>, routes: &[Route]) -> Result<Self, Unaddressable> {
        let mut pointers = PointerSet::default();
        let compiled =
            routes.iter().map(|route| Compiled::new(route, &mut pointers)).collect::<Result<_, _>>()?;
        let sources = sources.into_iter().map(|source| {
            let listens =
                |route: &&(usize, &Route)| route.1.sources.is_empty() || route.1.sources.contains(&source);
            let numbered: Vec<_> = routes.iter().enumerate().collect();
            let index = TypeIndex::new(
                numbered.iter().filter(listens).map(|(at, route)| (*at, route.types.as_slice())),
            );
            (Arc::clone(&source), index)
        });
        Ok(Self { sources: sources.collect(), routes: compiled, pointers })
    }

    /// Decides where an event goes.
    pub fn route(&self, event: &VerifiedEvent) -> Decision {
        let mut decision = Decision::default();
        let Some(index) = self.sources.get(event.source()) else { return decision };
        let matching = index.matching(event.event_type());
        // The body is read for templates only where a matching route asks for it, and then once.
        let mut values = None;
        for route in matching.iter().map(|at| &self.routes[*at]) {
            for target in &route.to {
                let destination = match target {
                    CompiledTarget::Fixed(destination) => destination.clone(),
                    CompiledTarget::Rendered { sink, keys } => {
                        let body = |slot: usize| {
                            let values = values.get_or_insert_with(|| self.pointers.read(event.body()));
                            values.get(slot).map(str::to_owned)
                        };
                        match render(event, keys, body) {
                            Ok(address) => Destination { sink: *sink, address },
                            Err((key, why)) => {
                                let route = Arc::clone(&route.name);
                                decision.unaddressable.push(Unaddressable { sink: *sink, route, key, why });
                                continue;
                            }
                        }
                    }
                };
                if !decision.destinations.contains(&destination) {
                    decision.destinations.push(destination);
                }
            }
        }
        decision
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Router({} sources, {} routes)", self.sources.len(), self.routes.len())
    }
}

impl Compiled {
    fn new(route: &Route, pointers: &mut PointerSet) -> Result<Self, Unaddressable> {
        let mut to = Vec::new();
        for target in &route.to {
            if target.address.iter().any(|(_, template)| !template.is_fixed()) {
                let compile = |(key, template): &(AddressKey, Template)| (*key, template.compile(pointers));
                let keys = target.address.iter().map(compile).collect();
                to.push(CompiledTarget::Rendered { sink: target.sink, keys });
                continue;
            }
            let mut parts = Vec::new();
            for (key, template) in &target.address {
                let value = template.text();
                let refused = |why| Unaddressable {
                    sink: target.sink,
                    route: Arc::clone(&route.name),
                    key: key.name(),
                    why,
                };
                key.check(value).map_err(refused)?;
                parts.push((key, value.into()));
            }
            to.push(CompiledTarget::Fixed(Destination { sink: target.sink, address: Address::new(parts) }));
        }
        Ok(Self { name: Arc::clone(&route.name), to })
    }
}

fn render(
    event: &VerifiedEvent,
    keys: &[(AddressKey, template::Compiled)],
    mut body: impl FnMut(usize) -> Option<String>,
) -> Result<Address, (&'static str, String)> {
    let mut parts = Vec::with_capacity(keys.len());
    for (key, template) in keys {
        match template.render(event, &mut body) {
            Ok(value) => {
                key.check(&value).map_err(|why| (key.name(), why))?;
                parts.push((key, value.into()));
            }
            Err(_) if !key.is_required() => {}
            Err(missing) => {
                return Err((key.name(), format!("needs {missing}, which the event does not have")));
            }
        }
    }
    Ok(Address::new(parts))
}
