//! One request: from its head to its answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use hookbus_core::{
    HandshakeAnswer, Refusal, RequestHead, VerifiedEvent,
    verify::{Examined, Received, UnsignedProbe},
};
use http::{Request, header::EXPECT, request::Parts};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    Ingress, Source,
    answer::{self, Answer, Problem},
    body::{Body, Framing, Terms, Unread},
    budget::Reservation,
    client::Client,
    handshake,
    work::{Phase, Work},
};
use crate::{accept::NotAccepted, metrics::Answered, rejected};

/// What a request comes to before it is answered.
enum Read {
    Event(VerifiedEvent),
    Handshake(HandshakeAnswer),
}

impl Ingress {
    /// Answers a request. Where `stopping` is set by then, the connection ends behind the answer.
    pub(super) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        stopping: &AtomicBool,
        doing: &mut Work,
    ) -> Answer {
        let (head, incoming) = request.into_parts();
        let framing = if doing.is_multiplexed() { Framing::Stream } else { Framing::Message };
        let mut body = Body::new(incoming, framing);
        let source = self.source(&head);
        let client = self.proxies.client(doing.sender(), &head.headers);
        let counting = source.map_or(&*self.metrics.no_source, |source| &*source.metrics).begin();
        let mut whole = None;
        let responded = self.respond(source, client, &head, &mut body, &mut whole, doing).await;
        counting.answered(responded.as_ref().map_or_else(Problem::answered, |(_, answered)| *answered));
        // Looked at now, not before: else a client would send its next request into a connection that is closed.
        let stopping = stopping.load(Ordering::Acquire);
        let (answer, last) = match responded {
            Ok((answer, _)) => (answer, stopping),
            Err(problem) => {
                tracing::debug!(path = head.uri.path(), reason = problem.reason(), %client, "request not accepted");
                self.answered(&problem, client);
                if problem.answered() == Answered::BrokenBody {
                    doing.broke_off();
                }
                if let Some(source) = source {
                    source.rejections.note(rejected::Request {
                        head: &head,
                        masks: &source.masks,
                        body: whole.as_ref(),
                        client: client.address,
                        reason: problem.reason(),
                        status: problem.status(),
                        refused: problem.answered() == Answered::Refused,
                    });
                }
                if doing.is_multiplexed() {
                    // Its stream ends alone: the client is told to send no more of the body.
                    return problem.answer();
                }
                // A client that asked whether to send its body has its answer; it must not be told to go on.
                let asked = head.headers.contains_key(EXPECT) && !body.is_at_end();
                let last = stopping || asked || !body.skip_short().await;
                if last && !asked {
                    body.discard();
                }
                (problem.answer(), last)
            }
        };
        // In HTTP/2 a client is told so by its connection, not by an answer.
        if last && !doing.is_multiplexed() {
            doing.enter(Phase::Closing);
            answer::last(answer)
        } else {
            answer
        }
    }

    async fn respond(
        &self,
        source: Option<&Source>,
        client: Client,
        head: &Parts,
        body: &mut Body,
        whole: &mut Option<Bytes>,
        doing: &mut Work,
    ) -> Result<(Answer, Answered), Problem> {
        let source = source.ok_or(Problem::not_found())?;
        handshake::check_method(&source.verifier, &head.method)?;
        self.admit(source, client)?;
        let mut room = source.carried.share.reserve();
        doing.enter(Phase::Body);
        let read = self.read(source, client, head, body, whole, &mut room).await;
        doing.enter(Phase::Request);
        let event = match read? {
            Read::Event(event) => event,
            Read::Handshake(answer) => return Ok(source.handshakes.answered(answer)),
        };
        self.verified(source, client)?;
        // Only what is authentic takes a place among the requests in progress.
        let _working = self.requests.begin().ok_or_else(Problem::busy)?;
        let (id, trace) = (event.id().clone(), event.trace_id());
        match self.acceptor.accept(event, source.waiting).await {
            Ok(accepted) => Ok(answer::accepted(source.respond.as_ref(), &id, accepted)),
            Err(refused) => {
                tracing::debug!(
                    source = source.verifier.source(),
                    id = id.as_str(),
                    trace = trace.map(tracing::field::display),
                    why = refused.why(),
                    "not accepted"
                );
                Err(match refused {
                    NotAccepted::Now { retry_after, .. } => Problem::not_accepted(retry_after),
                    NotAccepted::TooLarge => Problem::too_large(),
                })
            }
        }
    }

    /// The source that a request is sent to.
    fn source(&self, head: &Parts) -> Option<&Source> {
        self.sources.get(head.uri.path().strip_prefix("/hooks/")?)
    }

    /// Verifies a request. What can be refused by its head is refused before its body is read.
    async fn read(
        &self,
        source: &Source,
        client: Client,
        head: &Parts,
        body: &mut Body,
        whole: &mut Option<Bytes>,
        room: &mut Reservation,
    ) -> Result<Read, Problem> {
        let limit = self.limits.body.as_len();
        let announced = body.size_hint();
        if announced.lower() > limit as u64 {
            return Err(Problem::too_large());
        }
        let refused = |refusal: Refusal| {
            source.carried.refusals.note(refusal.as_str(), client);
            source.metrics.refused(refusal);
            Problem::refused(refusal, refusal.as_str(), refusal.explain())
        };
        let request = RequestHead { method: &head.method, query: head.uri.query(), headers: &head.headers };
        let examined = source.verifier.examine(request).map_err(refused)?;
        let deadline = Instant::now() + self.timeouts.body.get();
        let arrival = self.arriving.begin(client.allowance());
        let terms = |limit| Terms { limit, deadline, room, arrival };
        match examined {
            Examined::Claim(claim) => {
                let body = body.read(terms(limit)).await.map_err(unread)?;
                source.metrics.read(body.len());
                *whole = Some(body.clone());
                let received = claim.receive(body, SystemTime::now());
                if received.as_ref().err().is_none_or(|refusal| refusal.is_authentic()) {
                    source.rejections.verified();
                }
                let received = received.map_err(refused)?;
                *whole = None;
                match received {
                    Received::Event(event) => Ok(Read::Event(event)),
                    Received::Handshake(answer) => Ok(Read::Handshake(answer)),
                }
            }
            Examined::MaybeProbe(probe) => {
                let short = match body.read(terms(UnsignedProbe::MAX_BODY)).await {
                    // Too long for a probe: an event without a signature.
                    Err(Unread::TooLarge) => Bytes::from_static(b"?"),
                    read => read.map_err(unread)?,
                };
                source.metrics.read(short.len());
                probe.check(&short).map(Read::Handshake).map_err(refused)
            }
            Examined::Handshake(answer) => {
                body.read(terms(HandshakeAnswer::MAX_REQUEST_BODY)).await.map_err(unread)?;
                Ok(Read::Handshake(answer))
            }
        }
    }
}

fn unread(why: Unread) -> Problem {
    match why {
        Unread::TooLarge => Problem::too_large(),
        Unread::TooSlow => Problem::too_slow(),
        Unread::NoRoom => Problem::busy(),
        Unread::Broken => Problem::broken(),
    }
}
