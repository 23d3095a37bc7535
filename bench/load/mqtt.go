package load

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"
)

// mqttWire publishes with MQTT 3.1.1 and QoS 1, one at a time: a report is
// accepted when the broker has acknowledged it.
type mqttWire struct {
	conn    net.Conn
	timeout time.Duration
	id      uint16
	out     []byte
}

func dialMQTT(address, id string, timeout time.Duration) (Wire, error) {
	conn, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return nil, err
	}
	w := &mqttWire{conn: conn, timeout: timeout}
	_ = conn.SetDeadline(time.Now().Add(timeout))
	body := append([]byte("\x00\x04MQTT\x04\x02\x00\x00"), 0, byte(len(id)))
	body = append(body, id...)
	if _, err = conn.Write(append([]byte{0x10, byte(len(body))}, body...)); err == nil {
		var ack [4]byte
		if _, err = io.ReadFull(conn, ack[:]); err == nil && (ack[0] != 0x20 || ack[3] != 0) {
			err = errors.New("the broker refuses the connection")
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return w, nil
}

// Close ends the connection.
func (w *mqttWire) Close() { _ = w.conn.Close() }

// Post publishes a report and waits for the acknowledgement.
func (w *mqttWire) Post(devEUI string, _, body []byte) (bool, error) {
	_ = w.conn.SetDeadline(time.Now().Add(w.timeout))
	if w.id++; w.id == 0 {
		w.id = 1
	}
	topic := "tpx/things/" + devEUI + "/uplink"
	b := binary.AppendUvarint(append(w.out[:0], 0x32), uint64(2+len(topic)+2+len(body)))
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(topic))), topic...)
	w.out = append(binary.BigEndian.AppendUint16(b, w.id), body...)
	if _, err := w.conn.Write(w.out); err != nil {
		return false, err
	}
	var ack [4]byte
	if _, err := io.ReadFull(w.conn, ack[:]); err != nil {
		return false, err
	}
	if ack[0] != 0x40 || ack[1] != 2 || binary.BigEndian.Uint16(ack[2:]) != w.id {
		return false, errors.New("this is not the acknowledgement of the publish")
	}
	return true, nil
}
