/** The video types, and the inference of a file's type from its name. */

// video types: drawn by `make readme` from broker/domain/video_types.py; each row has a name, its extensions, its aliases
const TYPES = [
  ["video/mp4", ["mp4", "f4v"], ["application/mp4", "video/mp4v-es", "video/x-mp4"]],
  ["video/webm", ["webm"], []],
  ["video/quicktime", ["mov", "qt"], ["video/mov", "video/x-quicktime"]],
  ["video/x-matroska", ["mkv"], ["video/matroska", "video/mkv", "video/x-mkv", "application/x-matroska"]],
  ["video/mpeg", ["mpg", "mpeg", "mpe", "m1v", "m2v", "vob"], ["video/mpg", "video/x-mpeg", "video/x-mpeg2", "video/mpeg-system", "video/x-mpeg-system"]],
  ["video/3gpp", ["3gp", "3gpp"], ["video/3gp"]],
  ["video/3gpp2", ["3g2", "3gp2", "3gpp2"], ["video/3g2"]],
  ["video/x-m4v", ["m4v"], ["video/m4v"]],
  ["video/ogg", ["ogv"], ["video/x-ogg"]],
  ["video/x-msvideo", ["avi", "divx"], ["video/avi", "video/msvideo", "video/vnd.avi", "video/x-avi", "video/divx", "video/vnd.divx"]],
  ["video/mp2t", ["ts", "mts", "m2ts", "m2t"], ["video/mp2ts", "video/m2ts", "video/vnd.dlna.mpeg-tts", "video/x-mpegts"]],
];
// end of the video types

/** Return the file's video type by its usual name; by its extension if the browser's type is not a known video type. */
export function contentTypeOf(file) {
  const type = (file.type ?? "").split(";")[0].trim().toLowerCase();
  const extension = (file.name ?? "").split(".").pop().toLowerCase();
  const row = TYPES.find(([name, , aliases]) => name === type || aliases.includes(type))
    ?? TYPES.find(([, extensions]) => extensions.includes(extension));
  return row?.[0] ?? (file.type || "application/octet-stream");
}
