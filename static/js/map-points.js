// Draws hundreds of thousands of points by WebGL 2. Small and our own, because regl and what is
// built on it compile their draw commands from strings, which our CSP forbids (docs/decisions).

const VERTEX = `#version 300 es
in vec2 place; in vec4 colour; in float state;
uniform vec2 scale, offset; uniform float size;
out vec4 shown;
void main() {
  gl_Position = state < 0.5 ? vec4(2.0, 2.0, 2.0, 1.0) : vec4(place * scale + offset, 0.0, 1.0);
  gl_PointSize = state > 1.5 ? size * 1.8 : size;
  shown = state > 1.5 ? vec4(0.07, 0.07, 0.1, 1.0) : colour;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 shown; out vec4 pixel;
void main() {
  if (length(gl_PointCoord - 0.5) > 0.5) discard;
  pixel = vec4(shown.rgb * 0.85, 0.85);
}`;

export class Points {
  /** Places: Float32Array x and y, each of length n. Throws where there is no WebGL 2. */
  constructor(canvas, x, y) {
    const gl = canvas.getContext("webgl2", { antialias: false, preserveDrawingBuffer: true });
    if (!gl) throw new Error("no WebGL 2");
    Object.assign(this, { gl, canvas, count: x.length });
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    const places = new Float32Array(2 * x.length);
    for (let i = 0; i < x.length; i++) {
      places[2 * i] = x[i];
      places[2 * i + 1] = y[i];
    }
    const attribute = (name, size, type, isUnit) => {
      const buffer = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      const at = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, size, type, isUnit, 0, 0);
      return buffer;
    };
    this.buffers = {
      places: attribute("place", 2, gl.FLOAT, false),
      colours: attribute("colour", 4, gl.UNSIGNED_BYTE, true),
      states: attribute("state", 1, gl.UNSIGNED_BYTE, false),
    };
    this.set("places", places);
    this.at = (name) => gl.getUniformLocation(program, name);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** Send colours (4 bytes a point) or states (0 hidden, 1 shown, 2 selected). */
  set(name, values) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.buffers[name]);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, values, this.gl.STATIC_DRAW);
  }

  /** Draw by a view: centre (x, y) and how many map units half the height shows. */
  draw(view) {
    const { gl, canvas } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const [sx, sy] = [height / width / view.half, 1 / view.half];
    gl.uniform2f(this.at("scale"), sx, sy);
    gl.uniform2f(this.at("offset"), -view.x * sx, -view.y * sy);
    const crowd = Math.max(2, 9 - Math.log10(Math.max(this.count, 10)) * 1.5);
    gl.uniform1f(this.at("size"), ratio * Math.min(14, crowd / Math.sqrt(Math.min(view.half, 1))));
    gl.drawArrays(gl.POINTS, 0, this.count);
  }
}
