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
    Form, Format, VerifiedEvent,
    form::Redactions,
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
    /// How events are put there.
    pub format: Format,
    /// Whether what their source's redaction names is masked there.
    pub redact: bool,
}

/// Where one event goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The sink's place in the list the router's user keeps.
    pub sink: usize,
    /// The rendered and checked address.
    pub address: Address,
}

/// A destination that an event cannot have: never dropped in silence.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("route `{route}`: {what} {why}")]
pub struct Unaddressable {
    /// The sink's place in the list the router's user keeps.
    pub sink: usize,
    /// The route.
    pub route: Arc<str>,
    /// What of it is wrong.
    pub what: Wrong,
    /// What is wrong with it, as the end of a sentence.
    pub why: String,
}

/// What stands between an event and a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Wrong {
    /// The value of this key of the address.
    #[error("the {0} rendered for this event")]
    Address(&'static str),
    /// The body: it must be masked there, and cannot be.
    #[error("the body, in which values must be masked,")]
    Body,
}

impl Unaddressable {
    /// The reason in a word, as dead letters and metrics show it.
    pub fn reason(&self) -> &'static str {
        match self.what {
            Wrong::Address(_) => "unaddressable",
            Wrong::Body => "unredactable",
        }
    }
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
    redactions: Redactions,
}

struct Compiled {
    name: Arc<str>,
    to: Vec<CompiledTarget>,
}

struct CompiledTarget {
    sink: usize,
    address: CompiledAddress,
    format: Format,
    redact: bool,
}

enum CompiledAddress {
    /// No placeholder: rendered and checked once, shared by all events.
    Fixed(Address),
    Rendered(Vec<(AddressKey, template::Compiled)>),
}

impl Target {
    /// This address at this sink, where events come as they are, in binary mode.
    pub fn new(sink: usize, address: Vec<(AddressKey, Template)>) -> Self {
        Self { sink, address, format: Format::default(), redact: false }
    }

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
        let redactions = Redactions::default();
        Ok(Self { sources: sources.collect(), routes: compiled, pointers, redactions })
    }

    /// With what must not be seen of each source's events, for destinations that mask it.
    #[must_use]
    pub fn redacting(self, redactions: Redactions) -> Self {
        Self { redactions, ..self }
    }

    /// What must not be seen of each source's events.
    pub fn redactions(&self) -> &Redactions {
        &self.redactions
    }

    /// Decides where an event goes, and in what form.
    ///
    /// Where several of its routes lead to one address, the first one's format counts, and it is masked where any of them
    /// says so.
    pub fn route(&self, event: &VerifiedEvent) -> Decision {
        let mut decision = Decision::default();
        let Some(index) = self.sources.get(event.source()) else { return decision };
        let matching = index.matching(event.event_type());
        // The body is read for templates only where a matching route asks for it, and then once.
        let mut values = None;
        let mut found: SmallVec<[Found<'_>; 2]> = SmallVec::new();
        for route in matching.iter().map(|at| &self.routes[*at]) {
            for target in &route.to {
                let address = match &target.address {
                    CompiledAddress::Fixed(address) => address.clone(),
                    CompiledAddress::Rendered(keys) => {
                        let body = |slot: usize| {
                            let values = values.get_or_insert_with(|| self.pointers.read(event.body()));
                            values.get(slot).map(str::to_owned)
                        };
                        match render(event, keys, body) {
                            Ok(address) => address,
                            Err((key, why)) => {
                                let (sink, what) = (target.sink, Wrong::Address(key));
                                let route = Arc::clone(&route.name);
                                decision.unaddressable.push(Unaddressable { sink, route, what, why });
                                continue;
                            }
                        }
                    }
                };
                let destination = Destination { sink: target.sink, address };
                let masked_by = target.redact.then_some(&route.name);
                match found.iter_mut().find(|known| known.destination == destination) {
                    Some(known) => known.masked_by = known.masked_by.or(masked_by),
                    None => found.push(Found { destination, format: target.format, masked_by }),
                }
            }
        }
        self.give_form(event, found, &mut decision);
        decision
    }

    /// Settles in what form an event comes to its destinations; to none of those that mask it, where it cannot be masked.
    fn give_form(&self, event: &VerifiedEvent, found: SmallVec<[Found<'_>; 2]>, decision: &mut Decision) {
        let redaction = self.redactions.of(event.source());
        // Read once, and only where it matters.
        let mut maskable = None;
        for Found { destination: Destination { sink, address }, format, masked_by } in found {
            let mut form = Form::new(format);
            if let Some((route, redaction)) = masked_by.zip(redaction) {
                let mask = || {
                    event.can_be_masked()?;
                    redaction.mask(event.body()).map(|_| ())
                };
                if let Err(why) = maskable.get_or_insert_with(mask) {
                    let (route, what, why) = (Arc::clone(route), Wrong::Body, why.to_string());
                    decision.unaddressable.push(Unaddressable { sink, route, what, why });
                    continue;
                }
                form = form.redacted(Some(redaction.clone()));
            }
            let address = if form.is_plain() { address } else { address.with_form(form) };
            decision.destinations.push(Destination { sink, address });
        }
    }
}

/// A destination before its form is settled.
struct Found<'r> {
    destination: Destination,
    format: Format,
    /// The route that wants the event masked there.
    masked_by: Option<&'r Arc<str>>,
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
            let Target { sink, format, redact, .. } = *target;
            let with = |address| CompiledTarget { sink, address, format, redact };
            if target.address.iter().any(|(_, template)| !template.is_fixed()) {
                let compile = |(key, template): &(AddressKey, Template)| (*key, template.compile(pointers));
                to.push(with(CompiledAddress::Rendered(target.address.iter().map(compile).collect())));
                continue;
            }
            let mut parts = Vec::new();
            for (key, template) in &target.address {
                let value = template.text();
                let (route, what) = (&route.name, Wrong::Address(key.name()));
                let refused = |why| Unaddressable { sink, route: Arc::clone(route), what, why };
                key.check(value).map_err(refused)?;
                parts.push((key, value.into()));
            }
            to.push(with(CompiledAddress::Fixed(Address::new(parts))));
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
