//! As much of Redis' protocol (RESP2) as one command and its reply need.

use std::io::{self, BufRead};

/// A reply as text; an error reply is the inner `Err`.
pub(crate) type Reply = Result<String, String>;

/// A command on the wire.
pub(crate) fn encode(command: &[&str]) -> Vec<u8> {
    let words = command.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    (format!("*{}\r\n", command.len()) + &words.collect::<String>()).into_bytes()
}

/// Reads one reply. Of a list, which may hold lists, each item is a line; the first error in it is its error.
pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let odd = || io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is no reply", line.trim_end()));
    let Some(rest) = line.strip_suffix("\r\n") else { return Err(odd()) };
    let (mark, rest) = rest.split_at_checked(1).ok_or_else(odd)?;
    let length = || rest.parse::<i64>().map_err(|_| odd());
    Ok(match mark {
        "+" | ":" => Ok(rest.to_owned()),
        "-" => Err(rest.to_owned()),
        "$" => match usize::try_from(length()?) {
            Err(_) => Ok("(nil)".to_owned()),
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                from.read_exact(&mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
            }
        },
        "*" => {
            let items = (0..length()?).map(|_| read(from)).collect::<io::Result<Vec<_>>>()?;
            items.into_iter().collect::<Result<Vec<_>, _>>().map(|items| items.join("\n"))
        }
        _ => return Err(odd()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lists_of_counted_words() {
        assert_eq!(encode(&["GET", "é"]), "*2\r\n$3\r\nGET\r\n$2\r\né\r\n".as_bytes());
    }

    #[test]
    fn replies_of_every_type_are_read() {
        let replies = [
            ("+PONG\r\n", Ok("PONG")),
            (":12\r\n", Ok("12")),
            ("$4\r\na\r\nb\r\n", Ok("a\r\nb")),
            ("$-1\r\n", Ok("(nil)")),
            ("*2\r\n$1\r\na\r\n*1\r\n:1\r\n", Ok("a\n1")),
            ("-LOADING wait\r\n", Err("LOADING wait")),
        ];
        for (bytes, reply) in replies {
            let read = read(&mut bytes.as_bytes()).unwrap();
            assert_eq!(read.as_deref().map_err(String::as_str), reply);
        }
        for broken in ["", "PONG\r\n", "$x\r\n", "$3\r\nab"] {
            assert!(read(&mut broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
