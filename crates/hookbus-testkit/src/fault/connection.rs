//! One connection through a proxy: two pumps, until both ends are done or it is cut.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpStream;

use super::{Direction, Fault, pump::Pump, weather::Weather};

/// Carries a connection to its end.
pub(super) async fn run(mut client: TcpStream, upstream: SocketAddr, weather: Arc<Weather>) {
    let mut watch = weather.watch();
    let born = *watch.borrow_and_update();
    weather.connected();
    if born.fault == Some(Fault::Cut) {
        return reset(&client);
    }
    let Ok(mut upstream) = TcpStream::connect(upstream).await else { return reset(&client) };
    // Small pieces pass as they come: a test counts them.
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_upstream, to_upstream) = upstream.split();
    let there = Pump::new(Direction::ToDestination, from_client, to_upstream, &weather, born.cuts);
    let back = Pump::new(Direction::ToSink, from_upstream, to_client, &weather, born.cuts);
    let is_cut = tokio::select! {
        ended = async { tokio::try_join!(there.run(), back.run()) } => ended.is_err(),
        _ = watch.wait_for(|now| now.cuts > born.cuts) => true,
    };
    if is_cut {
        // The destination sees an end, behind everything that was passed on to it.
        reset(&client);
    }
}

/// Lets the connection end with a reset when it is dropped.
fn reset(client: &TcpStream) {
    let _ = client.set_zero_linger();
}
