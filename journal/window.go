package journal

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// maxParked is how many entries below the floor may be not done. With a
// number and a sequence each, in few bytes, they add about 32 KiB to a book.
const maxParked = 8192

// maxWindow is how far above the floor an entry may be done, in entries. It
// bounds the book of a place to about 8 KiB.
const maxWindow = 1 << 16

// window is the set of a place's entries that are done: all up to the floor,
// but for a few that are parked, and some of the maxWindow that follow it. The
// zero value is the empty set.
type window struct {
	floor uint64 // every number up to it is done, or parked
	above uint64 // how many above it are done
	high  uint64 // the highest number done; not below floor
	// bits is a ring: number n stands at bit n modulo its size, which is a
	// power of two and at least high-floor.
	bits []uint64
	// parked are entries that are not done although the floor was raised over
	// them, in order: what is refused for long holds up nothing else.
	parked []start
}

func (w *window) size() uint64 { return uint64(len(w.bits)) * 64 }

// has reports whether n is done.
func (w *window) has(n uint64) bool {
	if n <= w.floor {
		_, parked := w.parkedAt(n)
		return !parked
	}
	if n > w.high {
		return false
	}
	i := n & (w.size() - 1)
	return w.bits[i/64]&(1<<(i%64)) != 0
}

// fits reports whether n can be added.
func (w *window) fits(n uint64) bool { return n <= w.floor+maxWindow }

// parkedAt returns where n is among those that are parked, or would be, and
// whether it is.
func (w *window) parkedAt(n uint64) (int, bool) {
	return slices.BinarySearchFunc(w.parked, n, func(s start, n uint64) int { return cmp.Compare(s.number, n) })
}

// park raises the floor over the entry above it, which is not done and lies in
// the message seq. It reports whether there was room for that.
func (w *window) park(seq uint64) bool {
	if len(w.parked) >= maxParked {
		return false
	}
	w.floor++
	w.parked = append(w.parked, start{w.floor, seq})
	w.settle()
	return true
}

// unpark makes the parked entries up to n done and returns how many they are.
func (w *window) unpark(n uint64) uint64 {
	i, _ := w.parkedAt(n + 1)
	w.parked = slices.Delete(w.parked, 0, i)
	return uint64(i)
}

// add adds n, which must fit, and raises the floor as far as it goes. It
// reports whether n is new.
func (w *window) add(n uint64) bool {
	if n <= w.floor {
		i, parked := w.parkedAt(n)
		if parked {
			w.parked = slices.Delete(w.parked, i, i+1)
		}
		return parked
	}
	if w.has(n) {
		return false
	}
	if n == w.floor+1 && w.above == 0 { // the common case, without the ring
		w.floor, w.high = n, n
		return true
	}
	w.grow(n)
	i := n & (w.size() - 1)
	w.bits[i/64] |= 1 << (i % 64)
	w.above++
	w.high = max(w.high, n)
	w.settle()
	return true
}

// settle raises the floor over what is done right above it.
func (w *window) settle() {
	for w.above > 0 && w.has(w.floor+1) {
		w.floor++
		i := w.floor & (w.size() - 1)
		w.bits[i/64] &^= 1 << (i % 64)
		w.above--
	}
	w.high = max(w.high, w.floor)
}

// raise makes every number up to n done that is not parked, and returns how
// many of them are new.
func (w *window) raise(n uint64) (added uint64) {
	if n <= w.floor {
		return 0
	}
	if w.above == 0 || n >= w.high {
		added = n - w.floor - w.above
		clear(w.bits)
		w.floor, w.high, w.above = n, n, 0
		return added
	}
	for w.floor < n {
		w.floor++
		i := w.floor & (w.size() - 1)
		if bit := uint64(1) << (i % 64); w.bits[i/64]&bit != 0 {
			w.bits[i/64] &^= bit
			w.above--
		} else {
			added++
		}
	}
	w.settle()
	return added
}

// grow makes the ring large enough for n.
func (w *window) grow(n uint64) {
	size := max(w.size(), 64)
	for size < n-w.floor {
		size *= 2
	}
	if size == w.size() {
		return
	}
	old := *w
	w.bits = make([]uint64, size/64)
	for k := old.floor + 1; k <= old.high; k++ {
		if old.has(k) {
			i := k & (size - 1)
			w.bits[i/64] |= 1 << (i % 64)
		}
	}
}

// appendBits appends what is done above the floor, the lowest number in the
// lowest bit of the first byte.
func (w *window) appendBits(b []byte) []byte {
	for n := w.floor + 1; n <= w.high; n += 8 {
		var c byte
		for i := range uint64(8) {
			if w.above > 0 && w.has(n+i) {
				c |= 1 << i
			}
		}
		b = append(b, c)
	}
	return b
}

// appendParked appends the entries that are parked: how many, and the
// differences from one number and one sequence to the next.
func (w *window) appendParked(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(w.parked)))
	var before start
	for _, s := range w.parked {
		b = binary.AppendUvarint(b, s.number-before.number)
		b = binary.AppendUvarint(b, s.seq-before.seq)
		before = s
	}
	return b
}

// readParked reads what appendParked wrote, and returns the rest.
func (w *window) readParked(b []byte) (rest []byte, err error) {
	number := func() uint64 {
		u, n := binary.Uvarint(b)
		if n <= 0 {
			err = errDamaged
			return 0
		}
		b = b[n:]
		return u
	}
	n := number()
	if n > maxParked {
		return nil, errDamaged
	}
	var at start
	for range n {
		at.number += number()
		at.seq += number()
		w.parked = append(w.parked, at)
	}
	return b, err
}

// openWindow makes a window of a floor and what appendBits wrote.
func openWindow(floor uint64, bits []byte) window {
	w := window{floor: floor, high: floor}
	for i, c := range bits {
		for k := range 8 {
			if n := floor + 1 + uint64(i*8+k); c&(1<<k) != 0 && w.fits(n) {
				w.add(n)
			}
		}
	}
	return w
}
