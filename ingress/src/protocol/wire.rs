//! Messages of public APIs in protobuf's binary form, read field by field where they lie: nothing is copied, and what a message makes
//! of memory is up to its reader. (The generated types make a hundred bytes of two that a client sends.)

use super::Problem;

/// The fields of a message that are still to be read.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'m> {
    rest: &'m [u8],
}

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Field<'m> {
    /// Its number in the `.proto` file.
    pub(crate) number: u64,
    /// What it holds.
    pub(crate) value: WireValue<'m>,
}

/// The forms that values have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum WireValue<'m> {
    /// Whole numbers, booleans, enums.
    Varint(u64),
    /// `double`, `fixed64`.
    Fixed64([u8; 8]),
    /// Texts, bytes, messages, lists of numbers.
    Bytes(&'m [u8]),
    /// `float`, `fixed32`.
    Fixed32([u8; 4]),
}

impl<'m> Fields<'m> {
    /// Those of a message.
    pub(crate) fn of(message: &'m [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Option<Field<'m>> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => WireValue::Varint(self.varint()?),
            1 => WireValue::Fixed64(*self.take(8)?.first_chunk()?),
            2 => {
                let length = self.varint()?;
                WireValue::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => WireValue::Fixed32(*self.take(4)?.first_chunk()?),
            // Groups have been gone for long.
            _ => return None,
        };
        Some(Field { number: key >> 3, value })
    }

    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

impl<'m> Iterator for Fields<'m> {
    type Item = Result<Field<'m>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or_else(|| Problem::malformed("the message is not protobuf, or is cut off")))
    }
}

impl<'m> WireValue<'m> {
    /// The bytes of a text, of bytes or of a message.
    ///
    /// # Errors
    /// A problem for a value of another form.
    pub(crate) fn bytes(self) -> Result<&'m [u8], Problem> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Problem::malformed("a field of the message has another type than the service says")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// A problem for what is none, and for what is not UTF-8.
    pub(crate) fn text(self) -> Result<&'m str, Problem> {
        let bytes = self.bytes()?;
        str::from_utf8(bytes).map_err(|_| Problem::malformed("a text of the message is not UTF-8"))
    }

    /// A number or a boolean.
    ///
    /// # Errors
    /// A problem for a value of another form.
    pub(crate) fn number(self) -> Result<u64, Problem> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(Problem::malformed("a field of the message has another type than the service says")),
        }
    }

    /// Hands on the numbers of a list of them, packed or one by one.
    ///
    /// # Errors
    /// A problem for what is none, and what `each` says.
    pub(crate) fn each_number(self, mut each: impl FnMut(u64) -> Result<(), Problem>) -> Result<(), Problem> {
        match self {
            Self::Varint(number) => each(number),
            Self::Bytes(packed) => {
                let mut numbers = Fields::of(packed);
                while !numbers.rest.is_empty() {
                    let number = numbers.varint();
                    each(number.ok_or_else(|| Problem::malformed("a list of numbers is cut off"))?)?;
                }
                Ok(())
            }
            _ => Err(Problem::malformed("a field of the message has another type than the service says")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Field<'_>>, Problem> {
        Fields::of(bytes).collect()
    }

    #[test]
    fn fields_are_read_where_they_lie() {
        let bytes = b"\x08\x96\x01\x12\x02hi\x1d\x01\0\0\0\x21\x02\0\0\0\0\0\0\0";
        let expected = [
            (1, WireValue::Varint(150)),
            (2, WireValue::Bytes(b"hi")),
            (3, WireValue::Fixed32([1, 0, 0, 0])),
            (4, WireValue::Fixed64([2, 0, 0, 0, 0, 0, 0, 0])),
        ];
        let found = read(bytes).unwrap();
        assert_eq!(found, expected.map(|(number, value)| Field { number, value }));
        let most = [&[0x08][..], &[0xff; 9], &[1]].concat();
        assert_eq!(read(&most).unwrap()[0].value, WireValue::Varint(u64::MAX));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [
            &b"\x08"[..],
            b"\x12\x03hi",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01hi",
            b"\x1d\0\0\0",
            b"\x21\0\0\0\0\0\0\0",
            b"\x0b\x0c",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(read(bytes).unwrap_err().status(), 400, "{bytes:?}");
        }
        let mut numbers = Vec::new();
        let packed = WireValue::Bytes(b"\x01\x96\x01");
        let each = |number| {
            numbers.push(number);
            Ok(())
        };
        packed.each_number(each).unwrap();
        assert_eq!(numbers, [1, 150]);
        assert!(WireValue::Bytes(b"\x96").each_number(|_| Ok(())).is_err());
        assert!(WireValue::Varint(1).text().is_err() && WireValue::Bytes(b"\xff").text().is_err());
    }
}
